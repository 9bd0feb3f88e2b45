"""Whole inputs, each one vector: images, texts, recordings."""
