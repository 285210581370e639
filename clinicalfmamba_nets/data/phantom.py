"""A head computed from formulas: CT, MRI, SPECT and PET contrasts of one anatomy, for demonstrations and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, to_path, write_image

CONTRASTS = ("ct", "t1", "t2", "flair", "spect", "pet")
# Brightness of each tissue in each contrast of CONTRASTS; CT is windowed so that bone is white and brain mid grey.
TISSUES = {
    "skin": (0.32, 0.38, 0.34, 0.36, 0.10, 0.15),
    "fat": (0.12, 0.95, 0.62, 0.66, 0.04, 0.06),
    "bone": (1.00, 0.04, 0.03, 0.04, 0.02, 0.04),
    "marrow": (0.72, 0.55, 0.36, 0.38, 0.06, 0.10),
    "csf": (0.20, 0.10, 0.95, 0.08, 0.04, 0.05),
    "grey": (0.42, 0.44, 0.58, 0.56, 1.05, 0.82),
    "white": (0.36, 0.64, 0.40, 0.42, 0.34, 0.38),
    "nuclei": (0.42, 0.50, 0.50, 0.50, 0.86, 0.90),
    "falx": (0.50, 0.30, 0.20, 0.22, 0.05, 0.05),
    "vessel": (0.48, 0.08, 0.06, 0.10, 0.20, 0.20),
    "edema": (0.36, 0.52, 0.66, 0.80, 0.26, 0.30),
    "lesion": (0.37, 0.38, 0.88, 0.95, 0.22, 0.55),  # seen in MRI, hardly in CT
    "hemorrhage": (0.74, 0.60, 0.44, 0.44, 0.10, 0.12),  # seen in CT, hardly in T2
    "calcification": (1.00, 0.36, 0.34, 0.34, 0.20, 0.20),  # seen in CT alone
    "focus": (0.42, 0.44, 0.58, 0.56, 1.60, 0.82),  # hot in SPECT alone
}
# Anchors of the color map of nuclear images, from 0 to 1 in equal steps; its luma rises all the way.
COLORS = ((0.0, 0.0, 0.0), (0.16, 0.0, 0.48), (0.62, 0.10, 0.58), (1.0, 0.52, 0.10), (1.0, 1.0, 0.78))
TASKS = {"ct_mri": "ct", "spect_mri": "spect", "pet_mri": "pet", "t2_flair": "flair"}
_HEAD = (0.71, 0.88)  # half axes of the scalp in half widths of the image: across, and front to back
_FINENESS = 2  # points per pixel and direction, averaged at the end


class _Canvas:
    """Points of the image, in half widths from its center (x to the right, y down), and paint for all contrasts."""

    def __init__(self, size: int) -> None:
        steps = (np.arange(size * _FINENESS) + 0.5) / (size * _FINENESS) * 2 - 1
        self.y, self.x = np.meshgrid(steps, steps, indexing="ij")
        self.soft = 1.0 / (size * _FINENESS)
        self.layers = np.zeros((len(CONTRASTS), *self.x.shape), dtype=np.float32)

    def inside(self, distance: NDArray, softness: float = 0.0) -> NDArray:
        """Return how much of each point lies where the signed distance is negative, in [0, 1]."""
        return 1 / (1 + np.exp(np.clip(distance / (self.soft + softness), -40, 40)))

    def paint(self, tissue: str, cover: NDArray) -> None:
        """Lay a tissue over what is there."""
        cover = cover.astype(np.float32)
        for layer, value in zip(self.layers, TISSUES[tissue], strict=True):
            layer += cover * (value - layer)

    def ellipse(self, center: tuple[float, float], half: tuple[float, float], degrees: float = 0.0) -> NDArray:
        """Return the signed distance (to first order) to an ellipse, negative inside."""
        turn = np.deg2rad(degrees)
        across, along = self.x - center[0], self.y - center[1]
        u = np.cos(turn) * across + np.sin(turn) * along
        v = np.cos(turn) * along - np.sin(turn) * across
        radius = np.hypot(u / half[0], v / half[1])
        slope = np.hypot(u / half[0] ** 2, v / half[1] ** 2)
        return radius * (radius - 1) / np.maximum(slope, 1e-6)

    def to_curves(self, curves: list[NDArray]) -> NDArray:
        """Return the distance of every point to the nearest of the curves, each an array of points (n, 2)."""
        from scipy.spatial import cKDTree

        tree = cKDTree(np.concatenate([_dense(curve) for curve in curves]))
        points = np.stack([self.x.ravel(), self.y.ravel()], axis=1)
        return tree.query(points, distance_upper_bound=0.3)[0].clip(max=0.3).reshape(self.x.shape)


def _dense(curve: NDArray) -> NDArray:
    """Fill a polygon with points about 0.002 apart."""
    pieces = [
        np.linspace(start, end, max(int(np.linalg.norm(end - start) / 0.002), 2))
        for start, end in zip(curve[:-1], curve[1:], strict=True)
    ]
    return np.concatenate(pieces)


def _scalp(canvas: _Canvas) -> NDArray:
    """Return the signed distance to the scalp: an ellipse, narrower in front."""
    center = 0.03
    egg = 1 + 0.10 * np.clip(canvas.y - center, -1, 1)
    across, along = canvas.x / (_HEAD[0] * egg), (canvas.y - center) / _HEAD[1]
    radius = np.hypot(across, along)
    slope = np.hypot(across / _HEAD[0], along / _HEAD[1]) / np.maximum(radius, 1e-6)
    return (radius - 1) / np.maximum(slope, 1e-6)


def _paint_shell(canvas: _Canvas, scalp: NDArray) -> NDArray:
    """Paint skin, fat, both tables of the skull with marrow between them; return the distance to the brain."""
    angle = np.arctan2(canvas.x, -canvas.y)  # 0 in front, pi behind
    fat = 0.030 + 0.016 * np.cos(angle / 2 + np.pi / 2) ** 2 + 0.006 * np.cos(3 * angle)
    outer = 0.018 + fat
    thick = 0.062 + 0.014 * np.cos(2 * angle) + 0.004 * np.sin(5 * angle + 0.4)
    marrow = 0.5 * thick * (1 + 0.22 * np.cos(4 * angle + 0.7))
    canvas.paint("skin", canvas.inside(scalp))
    canvas.paint("fat", canvas.inside(scalp + 0.018))
    canvas.paint("bone", canvas.inside(scalp + outer))
    middle = np.abs(scalp + outer + 0.5 * thick) - 0.5 * marrow
    sutures = np.minimum.reduce([np.abs(np.angle(np.exp(1j * (angle - place)))) for place in (-2.25, 2.25)])
    canvas.paint("marrow", canvas.inside(middle) * np.clip(sutures / 0.05, 0, 1))
    canvas.paint("csf", canvas.inside(scalp + outer + thick))
    return scalp + outer + thick + 0.016


def _sulci(rng: np.random.Generator) -> list[NDArray]:
    """Draw the sulci: wavy curves from the surface of the brain inwards."""
    curves = []
    count = 46
    for index in range(count):
        angle = 2 * np.pi * (index + rng.uniform(-0.28, 0.28)) / count
        if min(abs(np.sin(angle / 2)), abs(np.cos(angle / 2))) < 0.06:
            continue  # the fissure between the hemispheres is there
        depth = rng.uniform(0.10, 0.26)
        steps = np.linspace(0, 1, 12)
        bend = angle + rng.uniform(-0.9, 0.9) * depth * steps**2 + 0.022 * np.sin(steps * rng.uniform(5, 9))
        radius = 0.84 - depth * steps
        curves.append(np.stack([0.70 * radius * np.sin(bend), 0.02 - 0.86 * radius * np.cos(bend)], axis=1))
    return curves


def _fissures() -> list[NDArray]:
    """Draw the fissure between the hemispheres, front and back, and both lateral fissures."""
    steps = np.linspace(0, 1, 24)
    front = np.stack([0.006 * np.sin(9 * steps), -0.74 + 0.34 * steps], axis=1)
    back = np.stack([0.006 * np.sin(8 * steps), 0.78 - 0.36 * steps], axis=1)
    side = np.stack([0.62 - 0.23 * steps + 0.03 * np.sin(6 * steps), -0.16 + 0.10 * np.sin(3.2 * steps)], axis=1)
    insula = np.stack([0.39 + 0.035 * np.cos(3 * steps), -0.17 + 0.27 * steps], axis=1)
    return [front, back, *(curve * [sign, 1] for curve in (side, insula) for sign in (-1, 1))]


def _paint_plain_brain(canvas: _Canvas, surface: NDArray) -> None:
    """Paint a brain of one tissue with two ventricles: what is even in every contrast."""
    canvas.paint("white", canvas.inside(surface))
    for sign in (-1, 1):
        canvas.paint("csf", canvas.inside(canvas.ellipse((sign * 0.10, -0.08), (0.06, 0.16), sign * 12), 0.001))


def _paint_brain(canvas: _Canvas, surface: NDArray, rng: np.random.Generator) -> None:
    """Paint the folded cortex over white matter, and the nuclei, the ventricles and the falx."""
    brain = canvas.inside(surface)
    folds = canvas.to_curves(_sulci(rng) + _fissures())
    ribbon = 0.040 + 0.006 * np.sin(23 * canvas.x + 4) * np.sin(19 * canvas.y + 1)
    canvas.paint("white", brain)
    canvas.paint("grey", brain * canvas.inside(np.minimum(folds, -surface) - ribbon, 0.003))
    canvas.paint("csf", brain * canvas.inside(folds - 0.010, 0.001))
    for sign in (-1, 1):
        canvas.paint("nuclei", canvas.inside(canvas.ellipse((sign * 0.135, -0.17), (0.050, 0.095), sign * 18), 0.003))
        canvas.paint("nuclei", canvas.inside(canvas.ellipse((sign * 0.265, -0.05), (0.055, 0.145), sign * -16), 0.003))
        canvas.paint("nuclei", canvas.inside(canvas.ellipse((sign * 0.115, 0.09), (0.075, 0.125), sign * 22), 0.003))
        horn = canvas.ellipse((sign * 0.080, -0.205), (0.032, 0.120), sign * 20)
        trigone = canvas.ellipse((sign * 0.205, 0.285), (0.042, 0.150), sign * -24)
        canvas.paint("csf", canvas.inside(np.minimum(horn, trigone), 0.001))
    canvas.paint("csf", canvas.inside(canvas.ellipse((0, 0.03), (0.013, 0.120)), 0.001))
    fissure = np.abs(canvas.x) - 0.006
    outside_middle = canvas.inside(canvas.y + 0.44) + canvas.inside(0.46 - canvas.y)
    canvas.paint("falx", brain * canvas.inside(fissure) * outside_middle)


def _paint_vessels(canvas: _Canvas) -> None:
    canvas.paint("vessel", canvas.inside(canvas.ellipse((0, 0.765), (0.028, 0.034)), 0.002))
    canvas.paint("vessel", canvas.inside(canvas.ellipse((0, -0.715), (0.016, 0.018)), 0.002))
    for sign in (-1, 1):
        for x, y, radius in [(0.42, -0.13, 0.013), (0.46, -0.05, 0.011), (0.40, 0.05, 0.010), (0.045, -0.42, 0.011)]:
            canvas.paint("vessel", canvas.inside(canvas.ellipse((sign * x, y), (radius, radius)), 0.002))


def _paint_findings(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Paint what one modality shows and another does not."""
    shift = rng.uniform(-0.02, 0.02, size=(4, 2))
    x, y = (0.39, 0.20) + shift[0]
    ripple = 0.018 * np.sin(5 * np.arctan2(canvas.y - y, canvas.x - x) + 1)
    ripple += 0.010 * np.sin(17 * canvas.x - 13 * canvas.y)
    canvas.paint("edema", 0.9 * canvas.inside(canvas.ellipse((x, y), (0.125, 0.145), 20) + ripple, 0.010))
    canvas.paint("lesion", canvas.inside(canvas.ellipse((x, y), (0.060, 0.072), 20) + 0.6 * ripple, 0.004))
    x, y = (-0.33, -0.30) + shift[1]
    ripple = 0.012 * np.sin(4 * np.arctan2(canvas.y - y, canvas.x - x))
    canvas.paint("hemorrhage", canvas.inside(canvas.ellipse((x, y), (0.075, 0.050), 35) + ripple, 0.004))
    x, y = (-0.36, 0.33) + shift[2]
    spots = [(0, 0.205), (0.205, 0.30), (-0.205, 0.30), (x, y), (x + 0.035, y + 0.020), (x + 0.008, y + 0.045)]
    for place, radius in zip(spots, (0.017, 0.018, 0.018, 0.016, 0.012, 0.010), strict=True):
        canvas.paint("calcification", canvas.inside(canvas.ellipse(place, (radius, 1.2 * radius)), 0.001))
    place = (-0.42, 0.10) + shift[3]
    canvas.paint("focus", canvas.inside(canvas.ellipse((place[0], place[1]), (0.060, 0.075)), 0.010))


def head_phantom(size: int = 256, seed: int = 0, *, plain: bool = False) -> dict[str, NDArray[np.float32]]:
    """Compute one axial slice of a head, at the height of the ventricles, in several contrasts.

    The shapes are ellipses, distances and wavy curves; nothing is taken from a patient. Made so that fusion can be
    judged: skull with marrow in CT and MRI, a lesion that only MRI shows, hemorrhage and calcifications that only CT
    shows, a hot focus that only SPECT shows.

    Args:
        size: side of the square image in pixels, 32 or more.
        seed: of the folds, the findings' places and the noise.
        plain: a brain of one tissue, without folds, vessels, noise or uneven coils: every shading of it is invented.

    Returns:
        `ct`, `t1`, `t2`, `flair`, `spect`, `pet` and `mri` (the T2 image), float32 in [0, 1], shape (size, size), nose
        upwards; exactly 0 outside of the head in CT and MRI.

    Raises:
        ValueError: a size below 32.

    Example:
        >>> images = head_phantom(64)
        >>> images["ct"].shape, bool(images["ct"].max() <= 1)
        ((64, 64), True)
    """
    from scipy.ndimage import gaussian_filter

    if size < 32:
        raise ValueError(f"size: expected 32 or more, found {size}")
    rng, canvas = np.random.default_rng(seed), _Canvas(size)
    scalp = _scalp(canvas)
    surface = _paint_shell(canvas, scalp)
    if plain:
        _paint_plain_brain(canvas, surface)
    else:
        _paint_brain(canvas, surface, rng)
        _paint_vessels(canvas)
    _paint_findings(canvas, rng)
    shape = (len(CONTRASTS), size, _FINENESS, size, _FINENESS)
    layers = canvas.layers.reshape(shape).mean(axis=(2, 4))  # (contrasts, size, size)
    head = canvas.inside(scalp).reshape(shape[1:]).mean(axis=(1, 3)) > 0.5
    uneven = 0.0 if plain else 1.0
    shade = gaussian_filter(rng.standard_normal((size, size)), size / 8) * size / 8 * np.sqrt(4 * np.pi)
    shade = 1 + 0.06 * uneven * shade
    images = {}
    for name, layer in zip(CONTRASTS, layers, strict=True):
        noise = gaussian_filter(rng.standard_normal((size, size)), 0.6) * 0.015 * uneven
        if name in ("spect", "pet"):  # the resolution of such cameras: about 8 and 5 mm in a head of 230 mm
            image = gaussian_filter(layer * (1 + noise), size * (0.017 if name == "spect" else 0.010))
            image = image / image.max()
        else:
            image = head * np.maximum(layer * (shade if name != "ct" else 1.0) + noise, 0.0)
        images[name] = np.clip(image, 0, 1).astype(np.float32)
    return {**images, "mri": images["t2"].copy()}


def nuclear_colors(values: NDArray) -> NDArray[np.float32]:
    """Color values as viewers show nuclear images: black, indigo, magenta, orange, pale yellow.

    Args:
        values: any shape, in [0, 1].

    Returns:
        Red, green, blue in [0, 1], shape (*values.shape, 3), linear between the five anchors of `COLORS`.

    Example:
        >>> nuclear_colors(np.array([0.0, 1.0])).round(2).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 0.7799999713897705]]
    """
    anchors = np.linspace(0, 1, len(COLORS))
    planes = [np.interp(values, anchors, [color[index] for color in COLORS]) for index in range(3)]
    return np.stack(planes, axis=-1).astype(np.float32)


def write_phantom_pair(
    folder: PathLike,
    task: str = "ct_mri",
    size: int = 256,
    seed: int = 0,
    contrast: str = "t2",
    *,
    plain: bool = False,
) -> tuple[Path, Path]:
    """Write the phantom's MRI and second image as PNG files, SPECT and PET in color.

    Args:
        folder: where to write `mri.png` and `ct.png`, `spect.png` or `pet.png`; made where needed.
        task: "ct_mri", "spect_mri", "pet_mri" or "t2_flair".
        size: side in pixels.
        seed: as in `head_phantom`.
        contrast: of the MRI: "t1", "t2" or "flair".
        plain: as in `head_phantom`.

    Returns:
        The paths of the MRI and of the second image.

    Raises:
        FusionInputError: an unknown task.
    """
    if task not in TASKS:
        raise input_error(f"task {task!r}", f"one of {', '.join(TASKS)}", "another name", "correct it")
    images: dict[str, Any] = head_phantom(size, seed, plain=plain)
    second = TASKS[task]
    pixels = nuclear_colors(images[second]) if second in ("spect", "pet") else images[second]
    paths = to_path(folder) / "mri.png", to_path(folder) / f"{second}.png"
    for path, image in zip(paths, (images[contrast], pixels), strict=True):
        write_image(path, 255 * image)
    return paths
