"""Structures as loss terms: flat regions that stay flat, spots that stand out, no shading of the network's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.functional.structures import alone, opened, plateaus
from clinicalfmamba_nets.losses.shapes import check_pair

SPOT_WINDOW, SPOT_HEIGHT = 15, 0.15
SHADING_SCALES = (4, 8, 16)  # pixels that are averaged along each axis
EVEN = 0.02
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

    Raises:
        FusionInputError: shapes that do not fit.

    Example:
        >>> import torch
        >>> image = torch.stack([torch.zeros(9, 9), torch.ones(9, 9)]).unsqueeze(0)
        >>> round(plateau_error(image.mean(1, keepdim=True), image).item(), 2)
        0.5
    """
    check_pair(fused, image)
    there = plateaus(image)
    return ((fused - image.amax(1, keepdim=True)).abs() * there).sum() / there.sum().clamp_min(1)


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

    Raises:
        FusionInputError: shapes that do not fit.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 2, 21, 21)
        >>> image[0, 1, 10:12, 10:12] = 0.8
        >>> round(spot_loss(image.mean(1, keepdim=True), image).item(), 2)
        0.5
    """
    check_pair(fused, image)
    height = (image - opened(image, SPOT_WINDOW)).detach()
    spots = (image >= image.amax(1, keepdim=True)) & (height > SPOT_HEIGHT)
    weight = height * spots * alone(spots.to(image.dtype))  # (B, 2, *S)
    lost = (height - (fused - opened(fused, SPOT_WINDOW))).relu()
    return (weight * lost).sum() / (weight * height).sum().clamp_min(LEAST_SPOTS)


def shading_error(fused: Tensor, image: Tensor) -> Tensor:
    """Mean step of the fused image where both sources are even, beyond the steps that they make: invented shading.

    A mix of two images by one weight has steps between theirs. Where both are even, a change of the weight draws a
    border or a drift that is in neither. Steps are those between neighbors of the images averaged over 4, 8 and 16
    pixels along each axis, so that slow drifts count, and texture and noise do not. A place counts by
    1 / (1 + (s / 0.02)^2) with s the larger of both sources' steps there.

    Source: ours.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D; an axis of fewer than 8 pixels is not looked at.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar of at least 0; 0 for each source alone and for every mix of them by one weight.

    Raises:
        FusionInputError: shapes that do not fit.

    Example:
        >>> import torch
        >>> image = torch.cat([torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)], 1)
        >>> drift = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
        >>> shading_error(image.mean(1, keepdim=True), image).item(), shading_error(drift, image).item() > 0.1
        (0.0, True)
    """
    check_pair(fused, image)
    pool = F.avg_pool2d if fused.dim() == 4 else F.avg_pool3d
    found = []
    for scale in SHADING_SCALES:
        for axis in range(2, fused.dim()):
            if fused.shape[axis] < 2 * scale:
                continue
            window = [min(scale, size) for size in fused.shape[2:]]
            step, steps = (pool(x, window).diff(dim=axis) for x in (fused, image))
            over = (step - steps.amax(1, keepdim=True).clamp_min(0)).relu()
            under = (steps.amin(1, keepdim=True).clamp_max(0) - step).relu()
            even = 1 / (1 + (steps.abs().amax(1, keepdim=True) / EVEN).square())
            found.append(((over + under) * even).mean())
    return torch.stack(found).mean() if found else fused.sum() * 0
