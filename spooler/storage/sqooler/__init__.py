"""sqooler's storages: its documents, its client library, and the daemon's backend over them."""
