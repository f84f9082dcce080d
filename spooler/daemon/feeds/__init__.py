"""One storage as a daemon serves it: what works on it, and who keeps house there."""
