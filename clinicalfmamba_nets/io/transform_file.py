"""Rigid transforms as ITK's text files (`.tfm`), which 3D Slicer, ITK and ANTs read."""

from __future__ import annotations

import math

import numpy as np

from clinicalfmamba_nets.io.files import PathLike, atomic_file

# Between RAS (NIfTI and this project) and LPS (ITK and DICOM): its own inverse.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def euler_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """Return the angles about x, y and z in radians of a rotation Rz Rx Ry, ITK's order.

    Example:
        >>> euler_angles(np.eye(3))
        (0.0, 0.0, 0.0)
    """
    about_x = math.asin(min(1.0, max(-1.0, float(rotation[2, 1]))))
    if abs(math.cos(about_x)) < 1e-9:
        return about_x, 0.0, math.atan2(rotation[1, 0], rotation[0, 0])
    about_y = math.atan2(-rotation[2, 0], rotation[2, 2])
    return about_x, about_y + 0.0, math.atan2(-rotation[0, 1], rotation[1, 1]) + 0.0


def itk_transform_text(matrix: np.ndarray, center: np.ndarray) -> str:
    """Return a rigid transform as text of an ITK transform file.

    Source: "The ITK Software Guide", section on transform input and output; the layout is that of `itk.transformwrite`.

    Args:
        matrix: 4 x 4, RAS mm of the fixed image to RAS mm of the moving one.
        center: of the rotation, RAS mm.

    Returns:
        An `Euler3DTransform` in LPS, from points of the fixed image to points of the moving one, as ITK resamples.
    """
    place, pivot = LPS @ matrix @ LPS, LPS[:3, :3] @ center
    shift = place[:3, :3] @ pivot + place[:3, 3] - pivot
    numbers = [repr(float(value)) for value in (*euler_angles(place[:3, :3]), *shift)]
    fixed = [repr(float(value)) for value in (*pivot, 0)]
    lines = ["#Insight Transform File V1.0", "#Transform 0", "Transform: Euler3DTransform_double_3_3"]
    return "\n".join([*lines, f"Parameters: {' '.join(numbers)}", f"FixedParameters: {' '.join(fixed)}", ""])


def transform_matrix(text: str) -> np.ndarray:
    """Return the matrix of a transform file as `itk_transform_text` writes it.

    Args:
        text: of the file, an `Euler3DTransform` about a center.

    Returns:
        4 x 4, RAS mm of the fixed image to RAS mm of the moving one.

    Example:
        >>> shifted = np.eye(4)
        >>> shifted[0, 3] = 5.0
        >>> bool(np.allclose(transform_matrix(itk_transform_text(shifted, np.ones(3))), shifted))
        True
    """
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith("#"))
    numbers = [float(word) for word in lines["Parameters"].split()]
    pivot = np.array([float(word) for word in lines["FixedParameters"].split()[:3]])
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(numbers[:3]), np.cos(numbers[:3])
    about_x = np.array([[1, 0, 0], [0, cos_x, -sin_x], [0, sin_x, cos_x]])
    about_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    about_z = np.array([[cos_z, -sin_z, 0], [sin_z, cos_z, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ about_y
    matrix[:3, 3] = np.array(numbers[3:6]) + pivot - matrix[:3, :3] @ pivot
    return LPS @ matrix @ LPS


def write_transform(path: PathLike, text: str) -> None:
    """Write the text of a transform file, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="ascii")
