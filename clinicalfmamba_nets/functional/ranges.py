"""The range of an image's values: found, checked against what was promised, and the nearest usual one."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from clinicalfmamba_nets.errors import FusionWarning, input_error

USUAL_RANGES = (1, 255, 1023, 4095, 65535)  # floats, and images of 8, 10, 12 and 16 bits
BATCH_SLACK = 0.25  # share of the range that an augmented image of a training may leave it
HEAD_THRESHOLD = 8 / 255  # share of the range: a source that is brighter shows the head
SLACK = 0.01  # share of the range that rounding and interpolation may overshoot


def value_limits(image: Tensor) -> tuple[float, float]:
    """Find the smallest and the largest value of an image.

    Args:
        image: any shape with at least one value, real numbers of any dtype.

    Returns:
        Smallest and largest value; NaN where any value is NaN.

    Raises:
        FusionInputError: no value at all, or complex ones.

    Example:
        >>> value_limits(torch.tensor([3, 1, 2], dtype=torch.uint8))
        (1.0, 3.0)
    """
    if not image.numel():
        raise input_error(
            "image", "at least one value", f"shape {tuple(image.shape)}", "give an image that is not empty"
        )
    if image.is_complex():
        raise input_error("image", "real numbers", "complex ones", "take their magnitude")
    values = image.detach() if image.is_floating_point() else image.double()  # few kernels know uint16
    low, high = values.aminmax()
    return float(low), float(high)


def nearest_range(high: float) -> int | float:
    """Return the smallest usual range that holds a value: 1, 255, 1023, 4095, 65535, or the value itself.

    Example:
        >>> nearest_range(3071.0)
        4095
    """
    return next((usual for usual in USUAL_RANGES if high <= usual), high)


def check_range(
    name: str, image: Tensor, data_range: float = 1.0, slack: float = SLACK, remedy: str = ""
) -> tuple[float, float]:
    """Refuse an image whose values are not those of its range.

    Args:
        name: what the message calls the image.
        image: any shape with at least one value.
        data_range: the intensity that counts as 1.
        slack: share of the range that values may lie outside it.
        remedy: what the user can do, where that is not to give another data_range.

    Returns:
        The limits of its values as shares of the range, of which 0 and 1 are the ends.

    Raises:
        FusionInputError: values outside the range, or such as are not finite.

    Example:
        >>> check_range("image", torch.tensor([0.0, 2.0, 4.0]), 4)
        (0.0, 1.0)
    """
    low, high = value_limits(image)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise input_error(name, "finite values", "NaN or infinity", "the images must be finite: clean them first")
    if low < -slack * data_range or high > (1 + slack) * data_range:
        advice = f"scale the image to 0..1, or give data_range={nearest_range(high):g} where that is its range"
        if low < -slack * data_range:
            advice = "clip or shift the values so that black is 0"
        raise input_error(name, f"values from 0 to {data_range:g}", f"{low:g} to {high:g}", remedy or advice)
    return low / data_range, high / data_range


class BatchCheck:
    """Refuses a batch of a training whose images are not in [0, 1], and warns once of such predictions.

    A loss of images in 0..255 is a number of no unit, and nothing else tells. Augmented images may leave [0, 1] by a
    quarter.

    Args:
        name: what the messages call the images.

    Example:
        >>> BatchCheck()(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 8))
    """

    def __init__(self, name: str = "image") -> None:
        self.name, self.warned = name, False

    def __call__(self, pred: Tensor, image: Tensor) -> None:
        """Check predictions and images of a batch, any shapes; nothing is checked while a graph is recorded.

        Raises:
            FusionInputError: values of the images that are not finite or beyond [-0.25, 1.25].
        """
        if torch.jit.is_scripting() or torch.jit.is_tracing() or torch.compiler.is_compiling():
            return
        check_range(self.name, image, 1.0, BATCH_SLACK, "scale the images to 0..1 before the loss")
        low, high = value_limits(pred)
        if not self.warned and (low < -1 or high > 2):
            self.warned = True
            text = f"pred: expected values from 0 to 1, found {low:g} to {high:g}: does the network end in a limit?"
            warnings.warn(text, FusionWarning, stacklevel=4)


class InputCheck:
    """Warns once of images that a fusion network cannot know: beyond [0, 1] by more than a quarter, or NaN.

    Such a network was trained on images in [0, 1]: of those in 0..255 or in HU it makes nonsense of the right shape.
    Recorded and compiled graphs hold nothing of it. On a GPU, which a look at values would keep waiting, the first
    batch alone is looked at.

    Example:
        >>> InputCheck()(torch.rand(1, 2, 8, 8))
    """

    def __init__(self) -> None:
        self.done = False

    def __call__(self, image: Tensor) -> None:
        """Look at a batch of a network's forward, any shape; what has no values to look at is passed over."""
        if self.done or torch.jit.is_tracing() or torch.compiler.is_compiling() or not image.numel():
            return
        if image.is_meta or (image.is_cuda and torch.cuda.is_current_stream_capturing()):
            return
        try:
            low, high = value_limits(image)
        except RuntimeError:  # fake tensors and those of vmap
            return
        self.done = image.device.type != "cpu"
        if low >= -BATCH_SLACK and high <= 1 + BATCH_SLACK:
            return
        self.done = True
        found = f"{low:.4g} to {high:.4g}" if math.isfinite(low + high) else "NaN or infinity"
        remedy = "scale them"
        if low >= -BATCH_SLACK and math.isfinite(high):
            remedy = f"divide by {nearest_range(high):g} if that is white"
        text = f"image: expected values from 0 to 1, found {found}; {remedy}, or let `fuse` window the images"
        warnings.warn(text, FusionWarning, stacklevel=5)  # the line that calls the network


def value_text(value: float) -> str:
    """Return a value as a person writes it.

    Example:
        >>> value_text(23000.4), value_text(7.3123), value_text(-0.0)
        ('23000', '7.31', '0')
    """
    return f"{value + 0:.0f}" if abs(value) >= 100 else f"{value + 0:.3g}"
