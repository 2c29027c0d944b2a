"""Ready pieces for other programs, each with its own package: TerraTorch, torchgeo-bench, ONNX."""
