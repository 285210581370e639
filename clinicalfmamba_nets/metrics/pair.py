"""The one call that scores a fused image of a pair with every metric, and tells what the numbers must not hide."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import FusionWarning, input_error

from .checks import UndefinedScore, as_image, intensity_range
from .registry import ALL_METRICS, OWN_REGION, PER_SOURCE, check_names
from .remarks import heard
from .scores import Scores, head_region


def _entries(name: str, scores: Scores, column: int, suffix: str) -> dict[str, float]:
    """The parts of one metric in one region under their keys."""
    parts = {"": scores.value, "_a": scores.a, "_b": scores.b, "_min": scores.minimum}
    return {
        f"{name}{suffix}{part}": part_scores[0, column].item()
        for part, part_scores in parts.items()
        if part_scores is not None
    }


def _no_scores(name: str, regions: int) -> Scores:
    """Scores of a metric that a pair has no value of."""
    nothing = torch.full((1, regions), math.nan, dtype=torch.float64)
    return Scores(nothing, nothing, nothing) if name in PER_SOURCE else Scores(nothing)


def _with_batch(name: str, image: Any) -> Tensor:
    """One image as (1, 1, *spatial); refused where its axes can be read in two ways."""
    image = as_image(name, image)
    if image.dim() == 2:
        return image[None, None]
    if image.dim() == 4 and image.shape[:2] == (1, 3):
        found = f"{tuple(image.shape)}, which is a picture in color (3 channels) or a volume of 3 x H x W"
        remedy = "score its luma, of shape (1, 1, H, W); give the volume as (1, 1, 3, H, W)"
        raise input_error(name, "a shape that can be read in one way", found, remedy)
    if image.dim() in (4, 5) and image.shape[:2] == (1, 1):
        return image
    if image.dim() in (3, 4) and image.shape[0] == 1:
        return image[None]
    remedy = "give a volume as (1, H, W, D), and images of a batch one by one"
    raise input_error(name, "one image as (H, W), (1, *spatial) or (1, 1, *spatial)", f"{tuple(image.shape)}", remedy)


def _sources(image_a: Any, image_b: Any) -> tuple[Any, Any]:
    """The two sources, of which the second may be stacked behind the first: (2, *spatial) or (1, 2, *spatial)."""
    if image_b is not None and not isinstance(image_b, int | float):
        return image_a, image_b
    given = as_image("image_a", image_a)
    pair = given.unsqueeze(0) if given.shape[:1] == (2,) else given
    if image_b is not None or pair.dim() < 4 or pair.shape[:2] != (1, 2):
        found = f"the number {image_b}" if image_b is not None else "none"
        text = "the two sources of one pair as (2, *spatial)"
        remedy = f"call compute_all(fused, image_a, image_b), or stack {text}, got {tuple(given.shape)}"
        raise input_error("image_b", "the second source", found, remedy)
    return pair[:, :1], pair[:, 1:]


def _pair_facts(fused: Tensor, image_a: Tensor, image_b: Tensor) -> dict[str, list[str]]:
    """What is odd about the three images as a whole."""
    facts: dict[str, list[str]] = {}
    if torch.equal(image_a, image_b):
        facts["image_a and image_b are the same image: nothing was fused"] = []
    copied = [name for name, image in (("image_a", image_a), ("image_b", image_b)) if torch.equal(fused, image)]
    if copied:
        facts[f"fused is a copy of {' and '.join(copied)}: its PSNR is unbounded"] = []
    return facts


class _Asked(NamedTuple):
    data_range: float | None = None
    names: Iterable[str] | None = None
    with_ct: bool = True
    inside_head: bool = True


@torch.no_grad()
def score_pair(
    fused: Tensor, image_a: Tensor, image_b: Tensor | None = None, **asked: Any
) -> tuple[dict[str, float], list[str]]:
    """Score one fused image as `compute_all`, and return what it would warn of.

    Args:
        fused: see `compute_all`.
        image_a: see `compute_all`.
        image_b: see `compute_all`.
        asked: `data_range`, `names`, `with_ct` and `inside_head` of `compute_all`.

    Returns:
        The scores by name, and the remarks, one line each.

    Raises:
        FusionInputError: see `compute_all`.

    Example:
        >>> image = torch.rand(2, 32, 32)
        >>> score_pair(image[:1], image, names=["psnr"])[1]
        ['fused is a copy of image_a: its PSNR is unbounded']
    """
    first, second = _sources(image_a, image_b)
    images = {"fused": fused, "image_a": first, "image_b": second}
    images = {name: _with_batch(name, image) for name, image in images.items()}
    asked_for = _Asked(**asked)
    unit = intensity_range(list(images.values()), asked_for.data_range)
    frame = torch.ones_like(images["fused"], dtype=torch.bool)
    same_shape = images["image_a"].shape == images["image_b"].shape == frame.shape
    head = head_region(images["image_a"], images["image_b"], unit) if same_shape else frame
    results: dict[str, float] = {}
    facts = _pair_facts(**images)
    for name in check_names(asked_for.names, asked_for.with_ct):
        two = asked_for.inside_head and name not in OWN_REGION
        regions = torch.cat([frame, head], dim=1) if two else frame
        with heard() as told:
            try:
                scores = ALL_METRICS[name](**images, data_range=unit, regions=regions)
            except UndefinedScore as reason:
                scores = _no_scores(name, 1 + two)
                told[str(reason)] = [name]
        for text, undefined in told.items():
            facts.setdefault(text, []).extend([name] if undefined else [])
        results.update(_entries(name, scores, 0, ""))
        if two:
            results.update(_entries(name, scores, 1, "_head"))
    return results, [f"{text}: undefined (NaN): {', '.join(who)}" if who else text for text, who in facts.items()]


def compute_all(
    fused: Tensor,
    image_a: Tensor,
    image_b: Tensor | None = None,
    data_range: float | None = None,
    names: Iterable[str] | None = None,
    with_ct: bool = True,
    inside_head: bool = True,
) -> dict[str, float]:
    """Score one fused image with every metric, in the whole frame and inside the head.

    Args:
        fused: (H, W), (1, *spatial) or (1, 1, *spatial), 2D or 3D.
        image_a: the anatomical image (MRI) of the same shape; or both sources stacked, (2, *spatial) or
            (1, 2, *spatial), without `image_b`.
        image_b: the other source (CT, or the luma of SPECT or PET), the same shape.
        data_range: the intensity that counts as 1; None for floats in 0..1. Integers need it.
        names: metrics to compute; None for all of `ALL_METRICS`.
        with_ct: whether the second source is a CT; without one the metrics of bone and calcification are left out.
        inside_head: score the region where a source is brighter than 8/255 as well.

    Returns:
        `<name>` as the literature reports it, `<name>_a`, `<name>_b`, `<name>_min` per source and the lower of the two
        where the metric has such parts, and `<name>_head`, `<name>_head_a`, ... inside the head. NaN where undefined,
        with a `FusionWarning` that tells why: black images, equal sources, images smaller than a metric's window.

    Raises:
        FusionInputError: for an unknown name, more than one pair, images that disagree in shape, are not finite or
            leave their range, integers without `data_range`.

    Example:
        >>> image_a, image_b = torch.rand(2, 32, 32)
        >>> sorted(compute_all((image_a + image_b) / 2, image_a, image_b, names=["psnr"], inside_head=False))
        ['psnr', 'psnr_a', 'psnr_b', 'psnr_min']
    """
    scores, remarks = score_pair(
        fused, image_a, image_b, data_range=data_range, names=names, with_ct=with_ct, inside_head=inside_head
    )
    for text in remarks:
        warnings.warn(text, FusionWarning, stacklevel=2)
    return scores
