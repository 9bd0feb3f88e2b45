"""Qdrant as the vector database: in this process, on a server, on a cluster."""
