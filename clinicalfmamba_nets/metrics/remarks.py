"""What a score must not hide: why it is undefined, and images that can hardly be what they are taken for."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import FusionWarning
from clinicalfmamba_nets.functional.precision import without_autocast
from clinicalfmamba_nets.functional.ranges import SLACK, nearest_range, value_limits

from .checks import SOURCES, as_image, intensity_range
from .scores import Scores

DARKEST_PAIR, DARKEST_IMAGE = 1 / 8, 1 / 64  # shares of data_range that the brightest pixel should reach
# NaN of these tells that there is nothing to score.
OFTEN_ABSENT = frozenset({"background_mean", "bone_mean", "calcification_contrast", "plateau_error"})
IMAGES = ("fused", "image_a", "image_b")
P = ParamSpec("P")
_listener: ContextVar[dict[str, list[str]] | None] = ContextVar("remarks", default=None)


def tell(text: str, undefined: str = "") -> None:
    """Warn of a fact about scores, or give it to the `heard` block around the call.

    Args:
        text: the fact.
        undefined: the metric that has no value because of it, if any.
    """
    here = _listener.get()
    if here is None:
        warnings.warn(f"{undefined} is undefined (NaN): {text}" if undefined else text, FusionWarning, stacklevel=3)
    else:
        here.setdefault(text, []).extend([undefined] if undefined else [])


@contextmanager
def heard() -> Iterator[dict[str, list[str]]]:
    """Collect what the metrics tell inside the block instead of warning: each text with the metrics it undefines.

    Example:
        >>> with heard() as texts:
        ...     tell("image_a is constant", undefined="cc")
        >>> texts
        {'image_a is constant': ['cc']}
    """
    texts: dict[str, list[str]] = {}
    token = _listener.set(texts)
    try:
        yield texts
    finally:
        _listener.reset(token)


def _is_constant(image: Tensor) -> bool:
    low, high = value_limits(image)
    return low == high


def why_undefined(fused: Tensor, image_a: Tensor, image_b: Tensor, regions: Tensor | None = None) -> str:
    """Find why a metric has no value for three images.

    Args:
        fused: (B, 1, *spatial).
        image_a: first source, the same shape.
        image_b: second source.
        regions: (B, R, *spatial) bool; None for the whole frame.

    Returns:
        The reason in a few words.

    Example:
        >>> image = torch.rand(1, 1, 8, 8)
        >>> why_undefined(image, image, torch.zeros_like(image))
        'image_b is constant'
    """
    for row in range(len(fused)):
        images = {"fused": fused[row], "image_a": image_a[row], "image_b": image_b[row]}
        constant = [name for name, image in images.items() if _is_constant(image)]
        if constant:
            return f"{' and '.join(constant)} {'is' if len(constant) == 1 else 'are'} constant"
    if regions is not None and not regions.flatten(2).any(dim=2).all():
        return "a region, such as the head (brighter than 8/255), holds no pixel"
    if any(torch.equal(*pair) for pair in zip(image_a, image_b, strict=True)):
        return "image_a and image_b are the same image"
    return "a region shows no structure to compare"


def tell_values(images: dict[str, Tensor], data_range: float) -> None:
    """Warn of sources that show nothing, images too dark for their data_range, and a fused image that leaves it.

    Args:
        images: `fused`, `image_a` and `image_b`, any shape; black ones are no sign of a wrong range.
        data_range: the intensity that counts as 1.
    """
    limits = {name: value_limits(image) for name, image in images.items()}
    if all(limits[name][0] == limits[name][1] for name in SOURCES):
        tell("image_a and image_b are constant: there is nothing to fuse")
    tops = {name: limit[1] for name, limit in limits.items()}
    both = max(tops["image_a"], tops["image_b"])
    tops = {"image_a and image_b": both, **tops} if both < DARKEST_PAIR * data_range else tops
    least = {"image_a and image_b": DARKEST_PAIR}
    for name, top in tops.items():
        if 0 < top < least.get(name, DARKEST_IMAGE) * data_range:
            share = f"{top:g} is {100 * top / data_range:.2g} % of data_range {data_range:g}"
            tell(f"{name}: the brightest value {share}: is that the image's range? data_range={nearest_range(top):g}")
            break
    low, high = limits["fused"]
    if low < -SLACK * data_range or high > (1 + SLACK) * data_range:
        tell(f"fused: values from {low:g} to {high:g} are clipped to 0..{data_range:g}, as in a saved file")


def scored(compute: Callable[P, Scores]) -> Callable[P, Scores]:
    """Let a metric tell why a score is undefined (NaN), and of images too dark for their range.

    Args:
        compute: a `compute_*` function.

    Returns:
        The same function, with `FusionWarning` where there is something to tell.
    """
    name = compute.__name__.removeprefix("compute_")
    call: Callable[..., Scores] = without_autocast(compute)
    signature = inspect.signature(compute)

    @wraps(compute)
    def wrapped(*args: P.args, **options: P.kwargs) -> Scores:
        given: dict[str, Any] = dict(signature.bind(*args, **options).arguments)
        images = {key: as_image(key, given[key]) for key in IMAGES}
        scores = call(**(given | images))
        tell_values(images, intensity_range(list(images.values()), given.get("data_range")))
        if name not in OFTEN_ABSENT and bool(scores.value.isnan().any()):
            tell(why_undefined(**images, regions=given.get("regions")), undefined=name)
        return scores

    return wrapped
