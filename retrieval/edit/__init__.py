"""Changes of a whole index."""
