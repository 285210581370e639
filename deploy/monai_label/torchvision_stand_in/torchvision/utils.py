"""Pictures of batches, for MONAI Label's training handlers."""

from __future__ import annotations

import math
from typing import Any

import torch


def make_grid(
    tensor: torch.Tensor, nrow: int = 8, padding: int = 2, normalize: bool = False, **options: Any
) -> torch.Tensor:
    """Put the images of a batch beside each other.

    Args:
        tensor: (B, C, H, W); grey images become RGB.
        nrow: images in a row.
        padding: width of the black edge around each, in pixels.
        normalize: stretch the values to [0, 1].
        options: accepted and left alone, but for `pad_value`.

    Returns:
        (3, rows, columns).
    """
    images = tensor.expand(-1, 3, -1, -1) if tensor.shape[1] == 1 else tensor
    if normalize:
        low, high = images.min(), images.max()
        images = (images - low) / (high - low).clamp_min(1e-5)
    count, channels, height, width = images.shape
    columns = min(nrow, count)
    size = (channels, padding + math.ceil(count / columns) * (height + padding), padding + columns * (width + padding))
    grid = images.new_full(size, options.get("pad_value", 0.0))
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = padding + row * (height + padding), padding + column * (width + padding)
        grid[:, top : top + height, left : left + width] = image
    return grid


def save_image(tensor: torch.Tensor, fp: Any, **options: Any) -> None:
    """Write an image (C, H, W), or a batch as a grid, with values in [0, 1].

    Args:
        tensor: the image or batch.
        fp: file or its name.
        options: as of `make_grid`.
    """
    from PIL import Image

    grid = make_grid(tensor if tensor.ndim == 4 else tensor[None], **{"padding": 0, **options})
    pixels = (grid.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)  # (H, W, 3)
    Image.fromarray(pixels.cpu().numpy()).save(fp)
