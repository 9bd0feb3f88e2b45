"""From pixels to the vectors of patches: weights, backbone, objectives, projection, FUNGI."""
