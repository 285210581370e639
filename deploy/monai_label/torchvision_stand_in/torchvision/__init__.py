"""A stand-in: MONAI Label imports two functions of torchvision, whose wheel on PyPI brings CUDA and its own torch."""
