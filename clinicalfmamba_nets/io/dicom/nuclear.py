"""The frames of a reconstructed nuclear medicine image: slice, detector and contrast of each, and what is not told.

Source: DICOM PS3.3, C.8.4.8 (multi-frame and its vectors), C.8.4.10 (energy windows), C.8.4.11 (detectors), C.8.4.15
(reconstruction).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.dicom.contrast_elements import VECTORS
from clinicalfmamba_nets.io.dicom.elements import Elements

_SAME_MM, _SAME_TURN = 0.1, 1e-3
_SLICES = "NumberOfSlices (0054,0081)"


@dataclass
class NuclearFrames:
    """What is told of the frames of a file.

    Attributes:
        slices: number of each frame's slice, from 1.
        detectors: the item of DetectorInformationSequence that tells where each frame lies.
        contrasts: what tells each frame from others at its place.
        problem: why the frames cannot be put in order, "" where they can.
        warnings: what was taken though the file holds more.
    """

    slices: list[int]
    detectors: list[Elements]
    contrasts: list[dict[str, Any]]
    problem: str = ""
    warnings: list[str] = field(default_factory=list)


def nuclear_frames(elements: Elements, frames: int) -> NuclearFrames:
    """Read the vectors of a nuclear medicine file.

    Args:
        elements: of the file.
        frames: how many images it holds.
    """
    vectors = {name: elements.numbers(f"{name}Vector") or () for name in ("Slice", *VECTORS)}
    for name, vector in vectors.items():
        if vector and len(vector) != frames:
            problem = f"expected one number for each of {frames} frames in {name}Vector, found {len(vector)}; {_AGAIN}"
            return NuclearFrames([1] * frames, [elements] * frames, [{}] * frames, problem)
    varying = [name for name in VECTORS if len(set(vectors[name])) > 1 or (frames == 1 and vectors[name])]
    contrasts = [{name: vectors[name][frame] for name in varying} for frame in range(frames)]
    order, problem = _order(elements, vectors["Slice"], contrasts)
    items = [Elements.of(item) for item in elements.items("DetectorInformationSequence")]
    chosen = [int(number) - 1 for number in vectors["Detector"] or [1.0] * frames]
    if items and not all(0 <= number < len(items) for number in chosen):
        problem = (
            problem or f"expected a detector of {len(items)} in DetectorVector (0054,0020), found another; {_AGAIN}"
        )
        chosen = [0] * frames
    detectors = [items[number] if items else elements for number in chosen]
    told = _other_windows(elements, vectors["EnergyWindow"])
    if not vectors["Detector"] and elements.finite("ImagePositionPatient", 3) is None:
        told += _other_places(items)
    return NuclearFrames(order, detectors, contrasts, problem, told)


_AGAIN = "export the reconstructed series again"


def _order(elements: Elements, vector: tuple[float, ...], contrasts: list[dict[str, Any]]) -> tuple[list[int], str]:
    """Return the slice of each frame; without a SliceVector they are counted in each contrast."""
    if vector:
        return [int(number) for number in vector], ""
    seen: Counter[tuple[Any, ...]] = Counter()
    order = []
    for contrast in contrasts:
        seen[tuple(contrast.values())] += 1
        order.append(seen[tuple(contrast.values())])
    stated = elements.count("NumberOfSlices", 0)
    if len(order) > 1 and stated and any(count != stated for count in seen.values()):
        found = f"{' and '.join(str(count) for count in list(seen.values())[:2])} frames and no SliceVector (0054,0080)"
        return order, f"expected {stated} frames by {_SLICES}, found {found}; {_AGAIN}"
    return order, ""


def _other_windows(elements: Elements, vector: tuple[float, ...]) -> list[str]:
    """Tell which of several energy windows the frames show."""
    stated = max(len(elements.items("EnergyWindowInformationSequence")), elements.count("NumberOfEnergyWindows", 1))
    if stated < 2 or len(set(vector)) > 1:
        return []
    if vector:
        return [f"of {stated} energy windows, number {vector[0]:g} is shown, by EnergyWindowVector (0054,0010)"]
    return [f"{stated} energy windows, but no EnergyWindowVector (0054,0010) tells which one the slices show"]


def _other_places(items: list[Elements]) -> list[str]:
    """Tell of detectors with other places than the first one, which is taken where no vector tells."""
    if len(items) < 2:
        return []
    turns = [item.finite("ImageOrientationPatient", 6) for item in items]
    places = [item.finite("ImagePositionPatient", 3) for item in items]
    off = max((_off(places[0], other) for other in places[1:]), default=0.0)
    turned = any(_off(turns[0], other) > _SAME_TURN for other in turns[1:])
    if off <= _SAME_MM and not turned:
        return []
    found = "turned against each other" if turned else f"{off:.3g} mm apart"
    return [f"{len(items)} detectors {found}, and no DetectorVector (0054,0020): the place of the first one is taken"]


def _off(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> float:
    return 0.0 if one is None or other is None else float(np.linalg.norm(np.subtract(one, other)))
