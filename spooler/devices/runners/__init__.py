"""What runs a handler somewhere it can be stopped."""
