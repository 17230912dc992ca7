"""What needs an execution engine: calibration, verification and benchmarks under onnxruntime."""
