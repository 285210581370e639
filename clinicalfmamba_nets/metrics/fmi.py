"""Feature mutual information between a fused image and each source."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..functional.gradients import sobel_gradients
from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, crop_border, prepare, region_mean, slice_wise

FEATURES = ("edge", "pixel", "gradient")
WINDOW = 3
CELLS = WINDOW * WINDOW
CHUNK = 4096


def sobel_edges(image: Tensor) -> Tensor:
    """Detect edges as MATLAB's `edge` does by default: Sobel, automatic threshold, thinned.

    A pixel is an edge where its squared gradient exceeds four times the mean over the frame and is a local maximum
    across the edge; pixels of the outermost frame are never edges.

    Args:
        image: (B, 1, H, W), floating point.

    Returns:
        (B, 1, H, W) of the input's dtype, 1 at edges and 0 elsewhere.
    """
    vertical, horizontal = (sobel_gradients(image, "replicate") / 8).unbind(dim=2)  # (B, 1, H, W) each
    power = vertical.square() + horizontal.square()
    strong = power > 4 * power.mean(dim=(1, 2, 3), keepdim=True)
    tolerance = 100 * torch.finfo(torch.float64).eps
    across_columns = horizontal.abs() >= vertical.abs() - tolerance
    across_rows = vertical.abs() >= horizontal.abs() - tolerance
    column_peak, row_peak = torch.zeros_like(strong), torch.zeros_like(strong)
    inner = power[..., 1:-1]
    column_peak[..., 1:-1] = (power[..., :-2] <= inner) & (inner > power[..., 2:])
    inner = power[..., 1:-1, :]
    row_peak[..., 1:-1, :] = (power[..., :-2, :] <= inner) & (inner > power[..., 2:, :])
    edges = strong & ((across_columns & column_peak) | (across_rows & row_peak))
    return functional.pad(crop_border(edges.to(image.dtype), 1), [1, 1, 1, 1])


def _feature(image: Tensor, feature: str) -> Tensor:
    """Feature map of an image, (B, 1, H, W)."""
    if feature == "edge":
        return sobel_edges(image)
    if feature == "gradient":
        return torch.gradient(image, dim=-1)[0]
    return image


def _windows(image: Tensor) -> Tensor:
    """Every 3 x 3 window read column by column, (B * (H - 2) * (W - 2), 9)."""
    columns = functional.unfold(image.transpose(-1, -2), WINDOW)  # (B, 9, (W - 2) * (H - 2))
    height, width = image.shape[-2:]
    columns = columns.unflatten(2, (width - 2, height - 2)).transpose(-1, -2)  # (B, 9, H - 2, W - 2)
    return columns.flatten(2).transpose(1, 2).flatten(0, 1)


def _densities(windows: Tensor) -> Tensor:
    """Each window stretched to [0, 1] and scaled to sum 1: a density over its nine cells."""
    low = windows.amin(dim=1, keepdim=True)
    stretched = (windows - low) / (windows.amax(dim=1, keepdim=True) - low)
    return stretched / stretched.sum(dim=1, keepdim=True)


def _entropy(density: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Entropy in nats; negative cells, which the interpolated joint density can have, count with their size."""
    return -torch.special.xlogy(density, density.abs()).sum(dim=dims)


def _cells(like: Tensor) -> Tensor:
    return torch.arange(1, CELLS + 1, dtype=like.dtype, device=like.device)


def _joint_density(source: Tensor, fused: Tensor) -> Tensor:
    """Joint density (N, 9, 9) of two densities (N, 9) with their own correlation.

    It is interpolated between independence and the upper (positive correlation) or lower (negative) Frechet bound so
    that the correlation of the cell numbers equals the Pearson correlation of the two densities. A cell of the upper
    bound holds what the intervals of both cumulated densities share, of the lower one with the source's from the end.
    """
    centered_source, centered_fused = source - 1 / CELLS, fused - 1 / CELLS
    scale = (centered_source.square().sum(1) * centered_fused.square().sum(1)).sqrt()
    correlation = (centered_source * centered_fused).sum(1) / scale
    high, fused_high = source.cumsum(1), fused.cumsum(1)  # (N, 9)
    low, fused_low = high - source, fused_high - fused
    turned = (correlation < 0).unsqueeze(1)
    low, high = torch.where(turned, 1 - high, low), torch.where(turned, 1 - low, high)
    extreme = torch.minimum(fused_high.unsqueeze(2), high.unsqueeze(1))  # (N, 9, 9)
    extreme = extreme.sub_(torch.maximum(fused_low.unsqueeze(2), low.unsqueeze(1))).clamp_(min=0)
    cell = _cells(source)
    means, squares = (torch.stack([density @ power for density in (source, fused)]) for power in (cell, cell.square()))
    spread = (squares - means.square()).clamp(min=0).sqrt().prod(dim=0)  # (N,)
    reach = ((extreme @ cell) @ cell - means.prod(dim=0)) / spread
    usable = (spread > 1e-12) & (correlation.abs() > 1e-14) & (reach.abs() > 1e-14)
    share = torch.where(usable, correlation / reach, torch.zeros_like(reach)).view(-1, 1, 1)
    return torch.lerp(fused.unsqueeze(2) * source.unsqueeze(1), extreme, share)


def _normalized_information(source: Tensor, fused: Tensor) -> Tensor:
    """Normalized mutual information (N,) of windows (N, 9) of which none is constant."""
    scores = []
    for source_part, fused_part in zip(source.split(CHUNK), fused.split(CHUNK), strict=True):
        source_density, fused_density = _densities(source_part), _densities(fused_part)
        marginal = _entropy(source_density, (1,)) + _entropy(fused_density, (1,))
        joint = _entropy(_joint_density(source_density, fused_density), (1, 2))
        information = 2 * (marginal - joint) / marginal
        scores.append(torch.where(marginal > 0, information, torch.zeros_like(marginal)))
    return torch.cat(scores) if scores else source.new_zeros(0)


def _distinct(source: Tensor, fused: Tensor, feature: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """For binary features the distinct pairs of windows and where each pair occurs: few of 2^18 are ever seen."""
    if feature != "edge" or not len(source):
        return source, fused, None
    bits = 2.0 ** torch.arange(CELLS, dtype=source.dtype, device=source.device)
    codes, where = torch.unique((source @ bits) * 2**CELLS + fused @ bits, return_inverse=True)
    first = torch.empty_like(codes, dtype=torch.long).scatter_(0, where, torch.arange(len(where), device=where.device))
    return source[first], fused[first], where


def _information_map(source: Tensor, fused: Tensor, feature: str) -> Tensor:
    """Normalized mutual information of each pair of 3 x 3 windows of two feature maps, (B, 1, H - 2, W - 2)."""
    source_windows, fused_windows = _windows(source), _windows(fused)
    scores = (source_windows == fused_windows).all(dim=1).to(source.dtype)
    varied = [windows.amax(dim=1) > windows.amin(dim=1) for windows in (source_windows, fused_windows)]
    compared = varied[0] & varied[1] & (scores == 0)
    source_windows, fused_windows, where = _distinct(source_windows[compared], fused_windows[compared], feature)
    information = _normalized_information(source_windows, fused_windows)
    scores[compared] = information if where is None else information[where]
    batch, _, height, width = source.shape
    return scores.view(batch, 1, height - 2, width - 2)


@scored
@slice_wise
def compute_fmi(
    fused: Tensor,
    image_a: Tensor,
    image_b: Tensor,
    data_range: float | None = None,
    regions: Tensor | None = None,
    feature: str = "edge",
) -> Scores:
    """Compute the feature mutual information with each source, and its mean over the two.

    In each 3 x 3 window the feature is read as a density over the nine cells; the joint density is interpolated between
    independence and a Frechet bound by the windows' correlation; the score is 2 I / (H + H). Equal windows score 1, and
    a window that is constant in one image alone scores 0. With edges most windows are empty in both images, so an
    empty frame scores 1: differences between methods are small.

    Source: Haghighat, Aghagolzadeh and Seyedarabi, "A non-reference image fusion metric based on mutual information of
    image features", Computers and Electrical Engineering 2011; Haghighat and Razian, "Fast-FMI", AICT 2014.

    Args:
        fused: (B, 1, H, W), at least 3 x 3; a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame. A window belongs to the region of its center.
        feature: "edge" (default of the authors' program: Sobel, thinned), "pixel", or "gradient" (along the columns).

    Returns:
        Scores, each (B, R); 1 for identical images. NaN where an image shows no feature: black ones agree in nothing.

    Raises:
        ValueError: for an unknown feature.
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 3 pixels along an axis.

    Example:
        >>> image = torch.zeros(1, 1, 16, 16)
        >>> image[..., 4:12, 4:12] = 1
        >>> compute_fmi(image, image, 1 - image).a.item()
        1.0
    """
    if feature not in FEATURES:
        raise ValueError(f"feature must be one of {FEATURES}, got {feature!r}")
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("FMI", inputs.fused, WINDOW)
    centers = crop_border(inputs.regions.double(), 1) > 0
    features = [_feature((image * 255).round(), feature) for image in inputs[:3]]  # whole numbers compare exactly
    featureless = [constant_in(part, inputs.regions) for part in features]
    to_a, to_b = (
        region_mean(_information_map(source, features[0], feature), centers).masked_fill(
            featureless[0] | lacking, torch.nan
        )
        for source, lacking in zip(features[1:], featureless[1:], strict=True)
    )
    return Scores((to_a + to_b) / 2, to_a, to_b)


class FMIMetric(FusionMetric):
    """Cumulates `compute_fmi` over pairs; arguments as `FusionMetric`, options `feature` and `data_range`."""

    compute = staticmethod(compute_fmi)
