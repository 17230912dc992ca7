"""Trained gates: what they aim at, and how they close until a budget is met."""
