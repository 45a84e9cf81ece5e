"""The program that computes a model's forward pass where it is served: torch, or ONNX Runtime where that is faster."""
