"""Recommendations for many users, written as Parquet in blocks: in one process, or by actors of a Ray cluster."""
