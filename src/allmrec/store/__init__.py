"""A run on disk: its folder, its stages and who holds it; no model is known here."""
