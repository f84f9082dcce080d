"""The whole path, once, in a folder of its own."""
