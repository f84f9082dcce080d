"""The daemon's backend on a local folder."""
