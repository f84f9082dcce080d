"""Jobs in MongoDB, from the queue to their end."""
