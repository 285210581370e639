"""Luma and chroma of color images: full-range BT.601, exact round trip on [0, 1]."""

from __future__ import annotations

import torch

# Weights of red, green and blue in the luma (ITU-R BT.601-7, section 2.5.1); chroma is not scaled to video range.
RED, GREEN, BLUE = 0.299, 0.587, 0.114


def _check_three_channels(image: torch.Tensor) -> None:
    if image.ndim < 3 or image.shape[1] != 3:
        raise ValueError(f"image: expected shape (B, 3, *spatial), found {tuple(image.shape)}")


def rgb_to_ycbcr(image: torch.Tensor) -> torch.Tensor:
    """Split a color image into luma and two color differences.

    Source: ITU-R BT.601-7, full range (as in JFIF), the conversion of JPEG without its rounding.

    Args:
        image: red, green, blue in [0, 1], shape (B, 3, *spatial).

    Returns:
        Y in [0, 1], Cb and Cr in [0, 1] with 0.5 for grey, shape (B, 3, *spatial).

    Raises:
        ValueError: where dimension 1 is not of size 3.

    Example:
        >>> rgb_to_ycbcr(torch.ones(1, 3, 1, 1)).flatten().tolist()
        [1.0, 0.5, 0.5]
    """
    _check_three_channels(image)
    red, green, blue = image.unbind(1)
    luma = RED * red + GREEN * green + BLUE * blue
    blue_difference = (blue - luma) / (2 * (1 - BLUE)) + 0.5
    red_difference = (red - luma) / (2 * (1 - RED)) + 0.5
    return torch.stack([luma, blue_difference, red_difference], dim=1)


def ycbcr_to_rgb(image: torch.Tensor) -> torch.Tensor:
    """Undo `rgb_to_ycbcr`; values are not clipped: :func:`displayed_rgb` gives colors that exist.

    Args:
        image: Y, Cb, Cr as `rgb_to_ycbcr` gives them, shape (B, 3, *spatial).

    Returns:
        Red, green, blue, shape (B, 3, *spatial), in [0, 1] for colors that exist.

    Raises:
        ValueError: where dimension 1 is not of size 3.

    Example:
        >>> ycbcr_to_rgb(torch.tensor([0.0, 0.5, 0.5]).reshape(1, 3, 1, 1)).flatten().tolist()
        [0.0, 0.0, 0.0]
    """
    _check_three_channels(image)
    luma, blue_difference, red_difference = image.unbind(1)
    red = luma + 2 * (1 - RED) * (red_difference - 0.5)
    blue = luma + 2 * (1 - BLUE) * (blue_difference - 0.5)
    green = (luma - RED * red - BLUE * blue) / GREEN
    return torch.stack([red, green, blue], dim=1)


def displayed_rgb(image: torch.Tensor) -> torch.Tensor:
    """Turn Y, Cb, Cr into colors that exist, of exactly the luma Y: a color that does not is drawn towards grey.

    Clipping red, green and blue instead would change the luma, and a fused image would leave the range of its sources.

    Args:
        image: Y, Cb, Cr as `rgb_to_ycbcr` gives them, shape (B, 3, *spatial); Y is limited to [0, 1].

    Returns:
        Red, green, blue in [0, 1], shape (B, 3, *spatial).

    Raises:
        ValueError: where dimension 1 is not of size 3.

    Example:
        >>> displayed_rgb(torch.tensor([0.9, 0.5, 0.8]).reshape(1, 3, 1, 1)).flatten().tolist()[0]
        1.0
    """
    _check_three_channels(image)
    luma = image[:, :1].clamp(0, 1)
    color = ycbcr_to_rgb(image) - image[:, :1]
    room = torch.where(color > 0, 1 - luma, luma) / color.abs().clamp_min(1e-12)
    return (luma + room.amin(1, keepdim=True).clamp_max(1) * color).clamp(0, 1)
