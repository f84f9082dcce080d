"""Jobs in one SQLite file, for a single host: the worked example of docs/write-a-storage.md."""
