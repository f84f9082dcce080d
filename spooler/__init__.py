"""spooler: runs the jobs of a lab instrument from the queue the collaboration already has."""

__version__ = "0.1.0"
