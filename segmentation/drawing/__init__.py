"""Pictures of masks and votes: arrays in, files out."""
