"""Help with labelling: proposals for photos without labels, and which of them to label next."""
