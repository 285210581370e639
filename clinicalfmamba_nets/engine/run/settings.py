"""The table of rules for the settings of trainings and evaluations: what is expected, and the nearest right value."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clinicalfmamba_nets.engine.run.devices import named_device
from clinicalfmamba_nets.errors import FusionInputError, input_error

SMALLEST_PATCH = 8  # the networks halve an image three times


@dataclass(frozen=True)
class Rule:
    """What a setting must be.

    Attributes:
        expected: in words, for the message.
        is_right: tells whether a value is right.
        nearest: the right value nearest to a wrong one.
    """

    expected: str
    is_right: Callable[[Any], bool]
    nearest: Callable[[Any], Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number of at least, and where given at most, so much.

    Example:
        >>> whole(1).nearest(-3), whole(1).is_right(True)
        (1, False)
    """
    text = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
    top = math.inf if most is None else most

    def nearest(value: Any) -> int:
        return int(min(top, max(least, round(value)))) if _is_number(value) else least

    return Rule(text, lambda value: _is_whole(value) and least <= value <= top, nearest)


def number(text: str, least: float, most: float, example: float, left_out: Sequence[float] = ()) -> Rule:
    """A number between two ends.

    Args:
        text: what is expected.
        least: lower end.
        most: upper end.
        example: named where the value is no number, or nearest to an end that is left out.
        left_out: the ends that are wrong themselves.
    """

    def is_right(value: Any) -> bool:
        return _is_number(value) and least <= value <= most and value not in left_out

    def nearest(value: Any) -> float:
        end = min(most, max(least, value)) if _is_number(value) else example
        return example if end in left_out else end

    return Rule(text, is_right, nearest)


def sizes(count: int, least: int, example: int, of: str = "axis") -> Rule:
    """A list of as many whole numbers as there are axes, or other things.

    Example:
        >>> sizes(2, 8, 256).nearest([32]), sizes(2, 8, 256).nearest([])
        ([32, 32], [256, 256])
    """
    each = whole(least)

    def is_right(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == count and all(map(each.is_right, value))

    def nearest(value: Any) -> list[int]:
        given = [part for part in (value if isinstance(value, list | tuple) else [value]) if _is_number(part)]
        given = [each.nearest(part) for part in given] or [example]
        return (given + given[-1:] * count)[:count]

    return Rule(f"a list of {count} whole numbers of at least {least}, one for each {of}", is_right, nearest)


def choice(*words: str) -> Rule:
    """One of some words."""

    def nearest(value: Any) -> str:
        return (difflib.get_close_matches(str(value), words, 1) or [words[0]])[0]

    return Rule(f"one of {', '.join(words)}", lambda value: value in words, nearest)


def flag() -> Rule:
    """True or false."""
    return Rule("true or false", lambda value: isinstance(value, bool), lambda value: str(value).lower() == "true")


def names(least: int = 1, example: str = "run1") -> Rule:
    """A list of at least so many texts."""

    def is_right(value: Any) -> bool:
        listed = isinstance(value, list | tuple) and len(value) >= least
        return listed and all(isinstance(part, str) and part for part in value)

    words = "a list of at least one name" if least else "a list of names, or an empty one"
    return Rule(words, is_right, lambda value: [str(value or example)])


_SHARE = "a share between 0 and 1, at most 0.5 (every second one is validated)"
RATE = Rule(
    "a number of at least 0 and at most 1",
    lambda value: _is_number(value) and 0 <= value <= 1,
    lambda value: min(1.0, value) if _is_number(value) and value > 0 else 0.0005,
)
PROBABILITY = number("a probability, from 0 to 1", 0.0, 1.0, 0.5)
COUNT, WHOLE = whole(1), whole(0)
RULES: dict[str, Rule] = {
    **dict.fromkeys(("epochs", "schedule_epochs", "val_interval", "batch_size", "slice_step"), COUNT),
    **dict.fromkeys(("patches_per_volume", "repeats", "held_out", "eh_dran_features"), COUNT),
    **dict.fromkeys(("depth", "decoder_depth", "fusion_depth", "fusion_decoder_depth", "num_workers"), WHOLE),
    **dict.fromkeys(("features", "d_state", "fusion_features", "fusion_d_state"), COUNT),
    **dict.fromkeys(("dim", "fusion_dim"), whole(2)),
    **dict.fromkeys(("learning_rate", "minimum_learning_rate"), RATE),
    **dict.fromkeys(("contrast_prob", "window_prob", "spot_prob", "cache_rate"), PROBABILITY),
    **dict.fromkeys(("hold_out", "resume", "amp", "balance", "shuffle_labels", "traps", "baselines"), flag()),
    **dict.fromkeys(("crop_to_head", "mirror", "refine", "overwrite", "allow_partial", "weights_map", "score"), flag()),
    "phantoms": Rule(
        "a whole number of at least 0, or null for one to every two pairs",
        lambda value: value is None or WHOLE.is_right(value),
        WHOLE.nearest,
    ),
    "seed": whole(0, 2**32 - 1),
    "ema_decay": number("a number from 0 to below 1", 0.0, 1.0, 0.999, [1.0]),
    "val_fraction": number(_SHARE, 0.0, 0.5, 0.1, [0.0]),
    "overlap": number("a share of at least 0 and below 1", 0.0, 1.0, 0.5, [1.0]),
    "least_shown": number("a share of at least 0 and below 1", 0.0, 1.0, 0.1, [1.0]),
    **dict.fromkeys(("focal_gamma", "gradient_limit"), number("a number of at least 0", 0.0, math.inf, 2.0)),
    "spatial_dims": Rule("2 or 3", lambda value: _is_whole(value) and value in (2, 3), lambda value: 2),
    "val_size": sizes(3, SMALLEST_PATCH, 96),
    "roi_size": sizes(3, 1, 128),  # of a region for a 2D network, the third is a number of slices
    "preparation": choice("native", "brats"),
    "other_grid": choice("refuse", "resample"),
    "register": choice("none", "rigid"),
    "section": choice("testing", "training"),
    "block": choice("basic", "bottleneck"),
    "runs": names(),
    "val_heads": names(0, "41"),
    "heads": names(0, "ct_mri"),
    "layers": sizes(4, 1, 2, "stage"),
    "block_inplanes": sizes(4, 1, 64, "stage"),
}


def _refuse(name: str, expected: str, value: Any, nearest: Any) -> FusionInputError:
    return input_error(name, expected, repr(value), f"the nearest right value is {name}={nearest}")


def check_settings(patch_dims: int = 2, device: Any = None, metrics: Any = None, **values: Any) -> dict[str, Any]:
    """Check the settings of a training or an evaluation, for the `initialize` expressions of a bundle.

    Args:
        patch_dims: number of axes of `patch_size` and `brats_size`.
        device: the device that was asked for.
        metrics: names of metrics, None for all.
        values: the other settings by name; those without a rule are left to the components that use them.

    Returns:
        The settings.

    Raises:
        FusionInputError: a setting is wrong; told are its name, what was expected and found, and the nearest right one.

    Example:
        >>> check_settings(epochs=3, val_fraction=0.9)
        Traceback (most recent call last):
        ...
        clinicalfmamba_nets.errors.FusionInputError: val_fraction: expected a share between 0 and 1, at most 0.5 \
(every second one is validated), found 0.9; the nearest right value is val_fraction=0.5
    """
    rules = RULES | {
        "patch_size": sizes(patch_dims, SMALLEST_PATCH, 256 if patch_dims == 2 else 48),
        "brats_size": sizes(patch_dims, SMALLEST_PATCH, 128),
    }
    for name, value in values.items():
        rule = rules.get(name)
        if rule is not None and not rule.is_right(value):
            raise _refuse(name, rule.expected, value, rule.nearest(value))
    _check_together(values)
    if device is not None:
        named_device(device)
    if metrics is not None:
        from clinicalfmamba_nets.metrics import check_names

        check_names(metrics)
    return values


def _check_together(values: dict[str, Any]) -> None:
    """Settings that are right alone and wrong together."""
    epochs, planned = values.get("epochs"), values.get("schedule_epochs")
    if epochs is not None and planned is not None and planned < epochs:
        text = f"at least the {epochs} epochs of the training, over which the learning rate falls"
        raise _refuse("schedule_epochs", text, planned, epochs)
    rate, lowest = values.get("learning_rate"), values.get("minimum_learning_rate")
    if rate is not None and lowest is not None and lowest > rate:
        raise _refuse("minimum_learning_rate", f"at most the learning_rate {rate:g}", lowest, rate)


def rotation_prob(patch_size: Sequence[int], axis: int = 0, other: int = 1, prob: float = 0.5) -> float:
    """Probability of turning a patch by quarters in a plane: none where that would change the shape of its batch.

    Args:
        patch_size: pixels along each axis.
        axis: first axis of the plane.
        other: second axis of the plane.
        prob: the probability for a square patch.

    Example:
        >>> rotation_prob([32, 32]), rotation_prob([33, 17])
        (0.5, 0.0)
    """
    return prob if patch_size[axis] == patch_size[other] else 0.0
