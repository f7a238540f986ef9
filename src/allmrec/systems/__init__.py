"""The systems of a run: one table of what can be trained, evaluated and asked to recommend."""
