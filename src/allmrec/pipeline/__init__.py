"""A run: its data and configuration, and training its stages each after its parents. No particular stage is named here."""
