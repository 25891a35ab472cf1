"""A bundle's parts made fast by PyTorch, OpenVINO, TensorRT or CUDA, each checked against eager before it serves."""
