"""Sweeps: one scoring, many budgets, and what each of them gives."""
