"""Nouns: frozen values, no I/O, no third party. Import them from their own modules."""
