"""A phantom data set in the layout of BraTS 2019: computed heads with tumors whose grade neither contrast tells alone.

It is a test bench for the grading pipeline. A score on it says whether the pipeline works, and nothing about patients.
"""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.data.brats import GRADES
from clinicalfmamba_nets.data.volume_phantom import (
    CONTRASTS,
    GREATEST,
    TISSUES,
    BrainShapes,
    centered_affine,
)
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import PathLike, atomic_file, printable, to_path
from clinicalfmamba_nets.io.nifti import write_nifti

# Distance of a sign that is there from one that is not, in standard deviations of its strength.
DIFFICULTIES = {"easy": 4.5, "medium": 3.5, "hard": 1.8}
# Shares of the patients of high grade whose signs are there in T2 alone, in FLAIR alone, and in both.
SHOWN_IN = {("t2",): 0.4, ("flair",): 0.4, ("t2", "flair"): 0.2}
PHANTOM = "PHANTOM"  # in the name of every case
DESCRIPTION = f"{PHANTOM} computed from formulas: not a patient, no clinical meaning"
NOTE_FILE, FACTS_FILE = "PHANTOM.txt", "phantoms.json"
NECROSIS, EDEMA, TUMOR = 1, 2, 4  # labels of BraTS
WIDTH = 170.0  # mm that the longest side of the grid spans
_MAPPING = ("Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID")


def separation(difficulty: str | float) -> float:
    """Return the distance of the signs for a name of `DIFFICULTIES` or a number of at least 0.

    Raises:
        FusionInputError: another name, or a negative number.
    """
    if difficulty in DIFFICULTIES:
        return DIFFICULTIES[str(difficulty)]
    try:
        value = float(difficulty)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        expected = f"{', '.join(DIFFICULTIES)}, or a distance of at least 0"
        raise input_error("difficulty", expected, repr(difficulty), "choose one of these")
    return value


def ideal_auc(difficulty: str | float, contrasts: int) -> float:
    """Return the AUC of a reader who measures the signs of one contrast, or of both, without error.

    The signs are normal with unit variance and independent, `separation` apart where they are there; the reader goes by
    the ratio of the likelihoods. Computed on a grid of strengths.

    Example:
        >>> round(ideal_auc("medium", 1), 3), round(ideal_auc("medium", 2), 3)
        (0.796, 0.99)
    """
    distance = separation(difficulty)
    axis = np.arange(-6 - distance / 2, 6 + distance / 2, 0.02)
    absent, present = (np.exp(-0.5 * (axis - sign * distance / 2) ** 2) for sign in (-1, 1))
    high = np.zeros(1)
    for shown, share in SHOWN_IN.items():
        densities = [present if name in shown else absent for name in CONTRASTS[:contrasts]]
        high = high + share * functools.reduce(np.multiply.outer, densities)
    low = functools.reduce(np.multiply.outer, [absent] * contrasts)
    order = np.argsort(high / low, axis=None)
    low, high = (values.ravel()[order] / values.sum() for values in (low, high))
    return float(high @ (low.cumsum() - low / 2))


def _squashed(strength: float) -> float:
    return 1 / (1 + math.exp(-strength))


def glioma_phantom(
    signs: Mapping[str, float], size: Sequence[int] = (80, 96, 72), seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Compute one head with a tumor.

    The necrotic core and the dark rim around it are seen in T2 alone, the edema in FLAIR alone; place, size and
    intensities of head and tumor do not depend on the signs.

    Args:
        signs: strengths `t2` (necrosis and rim) and `flair` (edema), around 0; both grow with them.
        size: voxels along right-left, back-front and down-up.
        seed: of everything else.

    Returns:
        `t2` and `flair`, float32 in [0, 1], 0 outside the brain; `seg`, uint8 with the labels of BraTS.

    Example:
        >>> sorted(glioma_phantom({"t2": 0.0, "flair": 1.0}, (20, 24, 18)))
        ['flair', 'seg', 't2']
    """
    generator = np.random.default_rng(seed)
    shapes = BrainShapes(size, generator)
    side = 1 if generator.random() < 0.5 else -1
    center = generator.uniform((0.3, -0.25, -0.1), (0.42, 0.3, 0.2)) * (side, 1, 1)
    half = generator.uniform(0.2, 0.27) * generator.uniform(0.9, 1.1, 3)
    gain = generator.uniform(0.85, 1.0, 2)
    texture = generator.normal(0, 0.02, (2, *size))

    tumor = shapes.ball(center, half) + 0.4 * shapes.folds
    core_share, edema_share = 0.15 + 0.7 * _squashed(signs["t2"]), 1.05 + 0.75 * _squashed(signs["flair"])
    core = shapes.ball(center, half * core_share)
    edema = shapes.ball(center, half * edema_share) + 0.4 * shapes.folds
    tissues = TISSUES | {"tumor": (0.60, 0.60)}
    t2, flair = (shapes.paint([*shapes.tissue_layers(), ("tumor", tumor)], number, tissues) for number in (0, 1))
    inside = shapes.cover(core)
    t2 += 0.35 * inside - 0.30 * (shapes.cover(core - 0.05) - inside)
    flair += 0.32 * (shapes.cover(edema) * (1 - shapes.cover(tumor)))

    seg = np.select([core < 0, tumor < 0, edema < 0], [NECROSIS, TUMOR, EDEMA], 0)
    volumes = {
        name: shapes.strip(gain[number] * image + texture[number])
        for number, (name, image) in enumerate(zip(CONTRASTS, (t2, flair), strict=True))
    }
    return {**volumes, "seg": np.where(shapes.brain < 0, seg, 0).astype(np.uint8)}


def _write_case(folder: Path, name: str, volumes: Mapping[str, NDArray[Any]]) -> None:
    size = volumes["seg"].shape
    affine = centered_affine(size, WIDTH / max(size))
    for kind, volume in volumes.items():
        values = volume if kind == "seg" else np.round(GREATEST * volume)
        stored = "uint8" if kind == "seg" else "int16"
        path = folder / name / f"{name}_{kind}.nii.gz"
        write_nifti(path, values, affine=affine, dtype=stored, description=DESCRIPTION)


def write_brats_phantoms(
    folder: PathLike,
    high: int = 20,
    low: int = 20,
    difficulty: str | float = "medium",
    size: Sequence[int] = (80, 96, 72),
    seed: int = 0,
) -> Path:
    """Write a phantom data set that `brats_datalist` reads: HGG, LGG, name_mapping.csv, T2, FLAIR and tumor labels.

    A patient of high grade has signs in T2, in FLAIR or in both (`SHOWN_IN`), so that neither contrast tells the grade
    alone. The strength of a sign that is there is drawn around half of `separation` above 0; that of one that is not,
    as of all at low grade, around half of it below. Every name and header says that these are phantoms; `phantoms.json`
    holds how each was drawn. A set that is there already, of the same settings, is left as it is.

    Args:
        folder: where to; its own name must hold the word "phantom".
        high: patients of high grade.
        low: patients of low grade.
        difficulty: "easy", "medium", "hard", or the distance of the signs; at 0 the images do not tell them.
        size: voxels of each volume.
        seed: of the whole set.

    Returns:
        The folder.

    Raises:
        FusionInputError: a folder whose name hides what is in it or that holds something else, no patient of a grade,
            or a bad difficulty.
    """
    root, distance = to_path(folder), separation(difficulty)
    if "phantom" not in root.name.lower():
        raise input_error(printable(root), "a name with phantom in it", printable(root.name), "rename the folder")
    if min(high, low) < 1:
        remedy = "give at least 1 of each"
        raise input_error("phantom data set", "patients of both grades", f"{high} high and {low} low", remedy)
    facts: dict[str, Any] = {
        "note": DESCRIPTION,
        "settings": {"high": high, "low": low, "distance": distance, "size": list(size), "seed": seed},
        "ideal_auc": {"one contrast": ideal_auc(distance, 1), "both contrasts": ideal_auc(distance, 2)},
    }
    if _is_written(root, facts["settings"]):
        return root
    generator, cases, rows = np.random.default_rng(seed), {}, []
    for number, grade in enumerate(["HGG"] * high + ["LGG"] * low):
        name = f"BraTS19_{PHANTOM}_{number + 1:03d}_1"
        shown = list(SHOWN_IN)[generator.choice(len(SHOWN_IN), p=list(SHOWN_IN.values()))] if GRADES[grade] else ()
        signs = {one: float(generator.normal(distance * ((one in shown) - 0.5))) for one in CONTRASTS}
        own_seed = int(generator.integers(2**31))
        _write_case(root / grade, name, glioma_phantom(signs, size, own_seed))
        cases[name] = {"grade": grade, "signs": signs, "seed": own_seed}
        rows.append((grade, "NA", "NA", "NA", name))
    with atomic_file(root / "name_mapping.csv") as partial, open(partial, "w", newline="") as file:
        csv.writer(file).writerows([_MAPPING, *rows])
    with atomic_file(root / NOTE_FILE) as partial:
        partial.write_text(f"{DESCRIPTION}.\nFor tests of the grading pipeline; no score on it is a clinical one.\n")
    with atomic_file(root / FACTS_FILE) as partial:  # last: the set is whole once it is there
        partial.write_text(json.dumps({**facts, "cases": cases}, indent=2) + "\n")
    return root


def _is_written(root: Path, settings: Mapping[str, Any]) -> bool:
    """Tell whether the same set is there; refuse a folder with another."""
    path = root / FACTS_FILE
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8"))["settings"] == settings:
            return True
        raise input_error(printable(root), "these settings", "phantoms of other settings", "name another folder")
    if not root.is_dir() or (root / NOTE_FILE).is_file():
        return False
    strange = [item.name for item in root.rglob("*") if item.is_file() and PHANTOM not in item.name]
    if strange:
        found = f"other files, such as {printable(strange[0])}"
        raise input_error(printable(root), "an empty or new folder", found, "name another folder")
    return False
