"""The memory bank: labels of patches, which are kept, augmentation, and the build of an index."""
