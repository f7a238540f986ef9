"""Runs: configuration, recipes, stages on disk and the systems that are compared."""
