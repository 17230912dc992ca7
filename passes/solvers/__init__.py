"""Solvers of the selection problem: one file and one row each."""
