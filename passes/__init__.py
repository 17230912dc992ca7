"""Choosing what to keep and rewriting the graph accordingly."""
