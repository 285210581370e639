"""Orders in which tokens of an image or volume are scanned, as index tensors.

A scan path is written as the order of the spatial axes, slowest first, with a leading ``-`` when it runs backwards:
in 2D ``01`` is row-major, ``10`` column-major, ``-01`` row-major from the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Four directions of a 2D image: rows and columns, each from both ends (arXiv 2508.03008, section 2.2).
FOUR_DIRECTIONS = ["01", "-01", "10", "-10"]
# Three slab axes of a volume, each from both ends (arXiv 2508.03008, "tri-plane scan").
TRI_PLANE = ["012", "-012", "102", "-102", "201", "-201"]
# A volume slice by slice along its last axis, rows and columns from both ends: the ablation without the 3D scan.
PLANAR = ["201", "-201", "210", "-210"]
# The published 3D code, for a (Z, H, W) tensor whose letters h, w, z are the axes 1, 2, 0.
OFFICIAL_SINGLE = ["120", "-120", "102"]
OFFICIAL_CROSS = ["120", "-120", "210", "-210", "021", "-021", "102", "-102"]


def scan_order(shape: list[int], path: str, device: torch.device) -> Tensor:
    """Row-major token numbers in the order in which a path visits them.

    Args:
        shape: spatial shape of the token grid, two or three sizes.
        path: axes, slowest first, with a leading ``-`` for the reversed path.
        device: where the result lies.

    Returns:
        int64 tensor (L,), a permutation of 0 .. L - 1.

    Example:
        >>> scan_order([2, 3], "10", torch.device("cpu")).tolist()
        [0, 3, 1, 4, 2, 5]
    """
    order = torch.zeros([1], dtype=torch.int64, device=device)
    start = 1 if path[0] == "-" else 0
    for position in range(len(shape)):
        axis = int(path[start + position])
        stride = 1
        for later in range(axis + 1, len(shape)):
            stride = stride * shape[later]
        steps = torch.arange(shape[axis], device=device) * stride
        order = (order.unsqueeze(1) + steps.unsqueeze(0)).flatten()
    return order.flip(0) if start == 1 else order


def scan_orders(shape: list[int], paths: list[str], device: torch.device) -> Tensor:
    """Stack the orders of several paths: int64 tensor (K, L)."""
    return torch.stack([scan_order(shape, path, device) for path in paths])
