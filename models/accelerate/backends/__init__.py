"""What computes a part: eager PyTorch, torch.compile, OpenVINO, TensorRT."""
