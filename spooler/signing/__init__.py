"""Keys and signatures: RFC 7515 for any JOSE library, and the form that sqooler verifies."""
