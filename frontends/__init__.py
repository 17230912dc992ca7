"""Ways into the compiler's IR and back: ONNX files and protos, onnx-graphsurgeon, torch."""
