"""Frozen language models that read embeddings."""
