"""Programs for hosts without this package: TorchScript, torch.export, AOTInductor and ONNX, written and loaded."""
