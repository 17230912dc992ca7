"""Recovery on two models that run side by side."""
