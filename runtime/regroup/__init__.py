"""Grouped convolutions: the step of a compile, and its proof."""
