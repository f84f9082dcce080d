"""The drop-in library under sqooler's names."""
