"""The handlers that come with spooler."""
