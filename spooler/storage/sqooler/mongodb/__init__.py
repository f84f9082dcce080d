"""The daemon's backend on a MongoDB server."""
