"""The commands of the lab: beside the instrument, and around the daemon."""
