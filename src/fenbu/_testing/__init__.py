"""Simulated clusters, and the test kit; `fenbu/testing.py` says what of it is public."""
