"""``mycelia demo``: embeddings beside FUNGI on photographs that come with scikit-image."""
