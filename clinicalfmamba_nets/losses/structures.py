"""Structures as loss terms: flat bright regions that stay flat, and small bright spots that still stand out."""

from __future__ import annotations

from torch import Tensor

from clinicalfmamba_nets.functional.structures import dilated, plateaus
from clinicalfmamba_nets.functional.windows import box_window, filter_separable

SPOT_WINDOW, SPOT_HEIGHT = 15, 0.15
CROWD_WINDOW, CROWDED = 31, 0.12  # spots that fill this share of the window are texture, or the skull
LEAST_SPOTS = 0.5  # squared heights of a batch: less is noise, and counts less


def plateau_error(fused: Tensor, image: Tensor) -> Tensor:
    """Mean distance to the brighter source where that source is flat and the other one far darker.

    Flat is a range below 0.02 within 5 pixels along each axis, far a difference above 0.3: inside of bone, a bleeding,
    tracer. There the result should be neither hollow nor rimmed.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar of at least 0; 0 where the sources have no such place.

    Example:
        >>> import torch
        >>> image = torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]).unsqueeze(0)
        >>> round(plateau_error(image.mean(1, keepdim=True), image).item(), 2)
        0.5
    """
    there = plateaus(image)
    return ((fused - image.amax(1, keepdim=True)).abs() * there).sum() / there.sum().clamp_min(1)


def _opened(image: Tensor) -> Tensor:
    """Opening with a window of 15 pixels: the image without bright spots narrower than that."""
    return dilated(-dilated(-image, SPOT_WINDOW), SPOT_WINDOW)


def spot_loss(fused: Tensor, image: Tensor) -> Tensor:
    """Share of the height of small bright spots that the fused image loses, each pixel weighted by its height.

    A spot is what stands out of the brighter source by 0.15 or more above the opening with a 15-pixel window, and is
    alone: the more spots there are within 31 pixels the less they count, and nothing at a share of 12 percent, as in
    sulci and along the skull. It counts how far a spot stands out of its surround, so a bright surround taken from the
    other source costs as much as a dim spot.

    Source: ours, the loss of `metrics.compute_calcification_contrast`.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar in [0, 1]; 0 where the sources have no spot.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 2, 21, 21)
        >>> image[0, 1, 10:12, 10:12] = 0.8
        >>> round(spot_loss(image.mean(1, keepdim=True), image).item(), 2)
        0.5
    """
    height = (image - _opened(image)).detach()
    spots = (image >= image.amax(1, keepdim=True)) & (height > SPOT_HEIGHT)
    crowd = filter_separable(spots.to(image.dtype), box_window(CROWD_WINDOW), "replicate")
    weight = height * spots * (1 - crowd / CROWDED).clamp_min(0)  # (B, 2, *S)
    lost = (height - (fused - _opened(fused))).relu()
    return (weight * lost).sum() / (weight * height).sum().clamp_min(LEAST_SPOTS)
