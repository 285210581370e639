"""Checks of the images that a metric is given: kind, range and size of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.functional.layout import plain_tensor
from clinicalfmamba_nets.functional.ranges import check_range, nearest_range, value_limits

OVERSHOOT = 1.0  # share of the range that a fused image may leave it: networks without a limit; clipped as in a file
SOURCES = ("image_a", "image_b")


class UndefinedScore(FusionInputError):
    """A metric has no value for images that are otherwise right, such as smaller than its window."""


def as_image(name: str, image: Any) -> Tensor:
    """Return an image as a plain tensor without history.

    Args:
        name: what the message calls it.
        image: a tensor, an array or nested lists of numbers.

    Raises:
        FusionInputError: what holds no numbers, such as None or the name of a file.

    Example:
        >>> as_image("fused", [[0.0, 1.0]]).shape
        torch.Size([1, 2])
    """
    try:
        tensor = torch.as_tensor(image)
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = "read the image first"
        raise input_error(name, "a tensor or an array of numbers", f"a {type(image).__name__}", remedy) from error
    return plain_tensor(tensor, name).detach().as_subclass(Tensor)


def as_floats(image: Tensor) -> Tensor:
    """The image itself, in float64 where its values are integers, of which torch can compare but few kinds."""
    return image if image.is_floating_point() else image.double()


def intensity_range(images: Sequence[Tensor], data_range: float | None = None) -> float:
    """Return the intensity that counts as 1: as given, or 1 for floating-point images.

    Args:
        images: the images of a metric.
        data_range: as given by the caller; None where nothing was said.

    Raises:
        FusionInputError: integers without a range, or a range that is no positive number.

    Example:
        >>> intensity_range([torch.zeros(2, 2)])
        1.0
    """
    if any(image.is_complex() for image in images):
        raise input_error("images", "real numbers", "complex ones", "take their magnitude")
    if data_range is None:
        integers = next((image for image in images if not image.is_floating_point()), None)
        if integers is None:
            return 1.0
        lowest = 1.0 if integers.dtype is torch.bool else 255.0
        top = nearest_range(max(lowest, *(value_limits(image)[1] for image in images)))
        found = f"{str(integers.dtype).removeprefix('torch.')} images without one"
        raise input_error(
            "data_range", "the intensity that counts as 1", found, f"give data_range={top:g} if that is it"
        )
    try:
        right = not isinstance(data_range, bool | str) and 0 < float(data_range) < torch.inf
    except (TypeError, ValueError):
        right = False
    if not right:
        raise input_error("data_range", "a number", f"{data_range!r}", f"data_range must be above 0, got {data_range}")
    return float(data_range)


def check_size(name: str, image: Tensor, least: int) -> None:
    """Refuse an image smaller than the window of a metric.

    Args:
        name: the metric.
        image: (B, 1, *spatial).
        least: pixels that each spatial axis needs.

    Raises:
        UndefinedScore: an axis is shorter.
    """
    if min(image.shape[2:]) < least:
        raise UndefinedScore(f"{name} needs at least {least} pixels along each axis, got {tuple(image.shape[2:])}")


def check_values(images: Sequence[Tensor], data_range: float) -> None:
    """Refuse what is not finite, and values that belong to another range.

    Args:
        images: fused, image_a and image_b.
        data_range: the intensity that counts as 1.

    Raises:
        FusionInputError: NaN, infinity, or values outside 0 to `data_range`; a fused image may overshoot by that range.
    """
    for name, image in zip(SOURCES, images[1:], strict=True):
        check_range(name, image, data_range)
    check_range("fused", images[0], data_range, OVERSHOOT)
