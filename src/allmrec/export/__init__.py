"""Trained recommenders to give away: saved folders, the hub, model cards."""
