"""What two storages need: payloads, tokens, leases that are watched, one thing per queue."""
