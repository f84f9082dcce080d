"""What outsiders may see: events, log lines, the board, the service manager."""
