"""The shapes that a fused image and its sources must have."""

from __future__ import annotations

from torch import Tensor

from clinicalfmamba_nets.errors import input_error


def check_pair(fused: Tensor, image: Tensor) -> None:
    """Refuse fused images and sources that do not belong together: broadcasting would compare each with other ones.

    Args:
        fused: (B, 1, *S), 2D or 3D.
        image: the two sources, (B, 2, *S).

    Raises:
        FusionInputError: other shapes, or no tensors.

    Example:
        >>> import torch
        >>> check_pair(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8))
    """
    if not (isinstance(fused, Tensor) and isinstance(image, Tensor)):
        found = f"{type(fused).__name__} and {type(image).__name__}"
        raise input_error("pred and image", "two tensors", found, "give both as tensors")
    if fused.dim() in (4, 5) and fused.shape[1] == 1 and (len(fused), 2, *fused.shape[2:]) == tuple(image.shape):
        return
    found = f"{tuple(fused.shape)}, {tuple(image.shape)}"
    remedy = "give one fused image for each pair of sources"
    raise input_error("pred and image", "fused (B, 1, *S) and sources (B, 2, *S)", found, remedy)
