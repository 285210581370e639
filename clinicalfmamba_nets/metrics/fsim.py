"""Feature similarity of a fused image to each source, from phase congruency and gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from ..functional.gradients import pad_edges
from .checks import check_size
from .fusion_metric import FusionMetric
from .remarks import scored
from .scores import Scores, constant_in, prepare, region_sum, slice_wise

VARIANTS = ("zhang", "published")
SCALES, SHORTEST_WAVE, SCALE_RATIO = 4, 6.0, 2.0
NOISE_DEVIATIONS = 2.0
PHASE_CONSTANT, GRADIENT_CONSTANT = 0.85, 160.0
PUBLISHED_EPSILON = 1e-4


def _frequencies(size: int) -> Tensor:
    """Frequencies of an axis in -0.5..0.5, zero first; an odd axis is stretched to reach both ends."""
    steps = torch.fft.fftfreq(size, dtype=torch.float64)
    return steps * size / (size - 1) if size % 2 else steps


def _filter_bank(height: int, width: int, orientations: int, bandwidth: float, gaussian_spread: bool) -> Tensor:
    """Log-Gabor filters in the frequency domain, (orientations, scales, H, W) float64."""
    rows, columns = torch.meshgrid(_frequencies(height), _frequencies(width), indexing="ij")
    radius = torch.hypot(rows, columns)
    angle = torch.atan2(-rows, columns)
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1
    waves = SHORTEST_WAVE * SCALE_RATIO ** torch.arange(SCALES, dtype=torch.float64).view(-1, 1, 1)
    radial = torch.exp(-((radius * waves).log() ** 2) / (2 * math.log(bandwidth) ** 2)) * low_pass
    radial[:, 0, 0] = 0
    directions = torch.arange(orientations, dtype=torch.float64).view(-1, 1, 1) * math.pi / orientations
    offset = torch.atan2(torch.sin(angle - directions), torch.cos(angle - directions)).abs()
    if gaussian_spread:
        spread = torch.exp(-(offset**2) / (2 * (math.pi / (orientations * 1.2)) ** 2))
    else:
        spread = (torch.cos((offset * orientations / 2).clamp(max=math.pi)) + 1) / 2
    return spread.unsqueeze(1) * radial.unsqueeze(0)


def _responses(images: Tensor, bank: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Responses of images (B, 1, H, W) to the filters of one orientation after the other.

    Single precision is enough (1e-5 of the index) and one orientation at a time stays in the cache.

    Yields:
        Complex responses (B, scales, H, W), even part real and odd part imaginary, and the filters (scales, H, W).
    """
    spectrum = torch.fft.fft2(images.float())  # (B, 1, H, W)
    for filters in bank.to(images.device):
        yield torch.fft.ifft2(spectrum * filters.float()), filters


def _energy(response: Tensor, epsilon: float) -> Tensor:
    """Phase congruency times amplitude, summed over scales, (B, H, W)."""
    total = response.sum(dim=1, keepdim=True)
    turned = response * (total / (total.abs() + epsilon)).conj()
    return (turned.real - turned.imag.abs()).sum(dim=1)


def _median(values: Tensor, lower: bool) -> Tensor:
    """Median of each image, (B, 1, 1); of an even count the lower or the mean of the middle two."""
    flat = values.flatten(1)
    middle = flat.median(dim=1).values
    if not lower:
        middle = (middle - (-flat).median(dim=1).values) / 2
    return middle[:, None, None]


def _zhang_threshold(smallest: Tensor, filters: Tensor) -> Tensor:
    """Energy that noise alone is expected to reach, (B, 1, 1), from the amplitudes (B, H, W) at the smallest scale."""
    power = _median(smallest.square(), lower=True) / math.log(2) / filters[0].square().sum()
    kernels = torch.fft.ifft2(filters).real * math.sqrt(filters[0].numel())
    squares = kernels.square().sum()
    products = (kernels.sum(dim=0).square().sum() - squares) / 2
    tau = torch.sqrt(power * (squares + 2 * products))
    return tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)) / 1.7


def _zhang_congruency(images: Tensor) -> Tensor:
    """Phase congruency (B, 1, H, W): energy over amplitude, both summed over four orientations."""
    bank = _filter_bank(images.shape[-2], images.shape[-1], 4, 0.55, gaussian_spread=True)
    energy = amplitude = torch.zeros_like(images[:, 0])
    for response, filters in _responses(images, bank):
        sizes = response.abs()
        energy = energy + (_energy(response, 1e-6) - _zhang_threshold(sizes[:, 0], filters)).clamp(min=0)
        amplitude = amplitude + sizes.sum(dim=1)
    return (energy / amplitude.clamp(min=1e-6)).unsqueeze(1)


def _published_threshold(smallest: Tensor) -> Tensor:
    """Energy that noise alone is expected to reach, (B, 1, 1), in Kovesi's later programs."""
    tau = _median(smallest, lower=False) / math.sqrt(math.log(4))
    tau = tau * (1 - SCALE_RATIO**-SCALES) / (1 - 1 / SCALE_RATIO)
    threshold = tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt((4 - math.pi) / 2))
    return threshold.clamp(min=PUBLISHED_EPSILON)


def _published_congruency(images: Tensor) -> Tensor:
    """Phase congruency (B, 1, H, W) of Kovesi's `phasecong3`, summed over six orientations, so up to 6."""
    bank = _filter_bank(images.shape[-2], images.shape[-1], 6, 0.5978, gaussian_spread=False)
    congruency = torch.zeros_like(images[:, 0])
    for response, _ in _responses(images, bank):
        sizes = response.abs()
        total, largest = sizes.sum(dim=1), sizes.amax(dim=1)
        energy = (_energy(response, PUBLISHED_EPSILON) - _published_threshold(sizes[:, 0])).clamp(min=0)
        width = (total / (largest + PUBLISHED_EPSILON) - 1) / (SCALES - 1)
        congruency = congruency + torch.sigmoid(10 * (width - 0.5)) * energy / total.clamp(min=1e-12)
    return congruency.unsqueeze(1)


def _scharr(image: Tensor, variant: str) -> Tensor:
    """Scharr gradient magnitude, (B, 1, H, W).

    "published" keeps what a 16-bit unsigned output of the operator leaves of images in [0, 1]: components without the
    usual 1/16, rounded to integers, the negative ones lost.
    """
    padded = pad_edges(image, 1, "zeros" if variant == "zhang" else "reflect")
    kernel = image.new_tensor([[-3.0, 0.0, 3.0], [-10.0, 0.0, 10.0], [-3.0, 0.0, 3.0]])
    gradients = functional.conv2d(padded, torch.stack([kernel, kernel.T]).unsqueeze(1))  # (B, 2, H, W)
    gradients = gradients / 16 if variant == "zhang" else gradients.round().clamp(min=0)
    return gradients.square().sum(dim=1, keepdim=True).sqrt()


def _similarity(map_a: Tensor, map_b: Tensor, constant: float) -> Tensor:
    return (2 * map_a * map_b + constant) / (map_a.square() + map_b.square() + constant)


def _downsample(images: Tensor, factor: int) -> Tensor:
    return functional.avg_pool2d(images, factor) if factor > 1 else images


@scored
@slice_wise
def compute_fsim(
    fused: Tensor,
    image_a: Tensor,
    image_b: Tensor,
    data_range: float | None = None,
    regions: Tensor | None = None,
    variant: str = "zhang",
) -> Scores:
    """Compute the feature similarity index with each source, and its mean over the two.

    "zhang" follows the authors: 0..255 intensities, 4 orientations, T1 0.85, T2 160, images above 384 pixels averaged
    down to about 256. "published" is what the tables of EH-DRAN and ClinicalFMamba contain: six orientations of
    Kovesi's phase congruency on [0, 1] intensities, for which the gradient term with T2 160 is close to 1 everywhere.

    Source: Zhang, Zhang, Mou and Zhang, "FSIM: a feature similarity index for image quality assessment", IEEE TIP 2011;
    P. Kovesi, "Image features from phase congruency", Videre 1999.

    Args:
        fused: (B, 1, H, W); a volume (B, 1, H, W, D) is scored slice by slice.
        image_a: first source, the same shape.
        image_b: second source.
        data_range: the intensity that counts as 1; None for floats in 0..1.
        regions: (B, R, *spatial) bool; None for the whole frame.
        variant: "zhang" or "published".

    Returns:
        Scores in [0, 1], each (B, R); 1 for identical images. NaN where an image is constant or shows no
        phase congruency.

    Raises:
        ValueError: for an unknown variant.
        FusionInputError: for images that disagree in shape, are not finite or leave their range.
        UndefinedScore: for fewer than 2 pixels along an axis.

    Example:
        >>> image = torch.rand(1, 1, 32, 32)
        >>> round(compute_fsim(image, image, 1 - image).a.item(), 6)
        1.0
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {VARIANTS}, got {variant!r}")
    inputs = prepare(fused, image_a, image_b, data_range, regions)
    check_size("FSIM", inputs.fused, 2)
    flat = [constant_in(image, inputs.regions) for image in inputs[:3]]
    images = torch.cat(inputs[:3], dim=0)  # (3 * B, 1, H, W)
    regions = inputs.regions
    if variant == "zhang":
        factor = max(1, round(min(images.shape[2:]) / 256))
        images, regions = _downsample(images * 255, factor), _downsample(regions.double(), factor) >= 0.5
    congruency = _zhang_congruency(images) if variant == "zhang" else _published_congruency(images)
    phases, gradients = congruency.chunk(3), _scharr(images, variant).chunk(3)
    scores = []
    for source in (1, 2):
        weight = torch.maximum(phases[0], phases[source])
        similar = _similarity(phases[0], phases[source], PHASE_CONSTANT)
        similar = similar * _similarity(gradients[0], gradients[source], GRADIENT_CONSTANT)
        score = region_sum(similar * weight, regions) / region_sum(weight, regions)
        scores.append(score.masked_fill(flat[0] | flat[source], torch.nan))
    return Scores((scores[0] + scores[1]) / 2, *scores)


class FSIMMetric(FusionMetric):
    """Cumulates `compute_fsim` over pairs; arguments as `FusionMetric`, options `variant` and `data_range`."""

    compute = staticmethod(compute_fsim)
