"""Grouped convolutions: which channels form blocks, and the model rewritten so."""
