"""Signed reports on their way to the storage."""
