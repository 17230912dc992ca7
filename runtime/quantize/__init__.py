"""Quantisation of a slim model: calibration, integers, QDQ nodes and their proof."""
