"""Quantisation: which integers tensors take."""
