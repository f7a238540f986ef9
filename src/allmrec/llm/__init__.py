"""Frozen language models that read embeddings; knows no user and no item."""
