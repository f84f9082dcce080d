"""Verbs: threads and the order of events."""
