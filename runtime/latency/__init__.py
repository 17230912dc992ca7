"""Latency under onnxruntime: measured once per kernel and shape, predicted for every plan."""
