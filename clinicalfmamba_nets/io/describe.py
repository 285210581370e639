"""What `info` tells of an image that is a file: format, size, place in space, values, and what is odd about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from clinicalfmamba_nets.io import PathLike, printable, read_image

_COORDINATES = {
    "patient": "in the patient's space",
    "directions": "directions known, position not",
    "other": "in a space without anatomical names: left and right not known",
    "none": "not known",
}


def describe_image(path: PathLike) -> dict[str, Any]:
    """Read an image and return what there is to tell, as plain values.

    Raises:
        FusionInputError: whatever is wrong with the file, in one line.
    """
    array, meta = read_image(path)
    affine = meta["affine"]
    size = list(array.shape[: array.ndim - 1 if meta["color"] else array.ndim])
    described: dict[str, Any] = {"path": printable(path), "format": meta["format"], "size": size}
    described |= {"type": meta["dtype"], "color": bool(meta["color"])}
    described |= {"values": [float(array.min()), float(array.max())], "voxel_mm": None, "axes": "", "affine": None}
    if affine is not None:
        sides = np.linalg.norm(affine[:3, : min(len(size), 3)], axis=0)
        described["voxel_mm"] = [round(float(side), 4) for side in sides]
        known = meta.get("coordinates", "patient")
        described |= {"place": _COORDINATES[known], "affine": np.asarray(affine).tolist()}
        if known in ("patient", "directions"):
            described["axes"] = _axes(np.asarray(affine))
    return described | {"notes": list(meta["notes"]), "warnings": list(meta.get("warnings", []))}


def _axes(affine: np.ndarray) -> str:
    """Return to which side each axis runs, such as "LPS": left, posterior, superior."""
    letters = []
    for column in (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T:
        axis = int(np.abs(column).argmax())
        letters.append(("RL", "AP", "SI")[axis][int(column[axis] < 0)])
    return "".join(letters)


def image_text(described: dict[str, Any]) -> str:
    """Lay out `describe_image` for a terminal."""
    size = " x ".join(map(str, described["size"]))
    color = ", in color" if described["color"] else ""
    low, high = described["values"]
    lines = [
        f"{described['path']}: {described['format']}, {size}, {described['type']}{color}",
        f"  values   {low:g} to {high:g}",
    ]
    if described["voxel_mm"] is not None:
        axes = f", axes run to {described['axes']}" if described["axes"] else ""
        lines.append(f"  voxels   {' x '.join(f'{side:g}' for side in described['voxel_mm'])} mm{axes}")
        lines.append(f"  place    {described['place']}")
    lines += [f"  note: {note}" for note in described["notes"]]
    lines += [f"  warning: {warning}" for warning in described["warnings"]]
    return "\n".join(lines)
