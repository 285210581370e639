"""Slices of the atlas as volumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clinicalfmamba_nets.data.stacks import estimated_distance, head_stacks, runs_of_slices
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image

SLICES = {7: range(3, 17), 8: [*range(1, 6), *range(7, 20)], 9: range(1, 5)}


@pytest.fixture
def atlas(tmp_path):
    """A small atlas: three heads of 14, 5 + 13 and 4 slices, head 8 in the test list."""
    listed = {"training": [], "test": []}
    for head, numbers in SLICES.items():
        for number in numbers:
            name = f"{head * 1000 + number}.png"
            for place, folder in enumerate(("MRI", "SPECT")):
                image = np.full((12, 10), 10 * number + place, np.uint8)
                image[0, 0] = 0
                write_image(tmp_path / "SPECT-MRI" / folder / name, np.stack([image] * 3, 2) if place else image)
            listed["test" if head == 8 else "training"].append({"mri": f"MRI/{name}"})
    (tmp_path / "datalists").mkdir()
    (tmp_path / "datalists" / "spect-mri_case3.json").write_text(json.dumps({"runs": {"run1": listed}}))
    return tmp_path


def test_a_gap_or_another_head_ends_a_run():
    names = [f"{head * 1000 + number}.png" for head, numbers in SLICES.items() for number in numbers]
    assert [(run[0], len(run)) for run in runs_of_slices(names[::-1])] == [("7003.png", 14), ("8007.png", 13)]


def test_heads_become_volumes_once_and_stay_on_their_side(atlas, tmp_path):
    cut = {part: head_stacks(atlas, "spect_mri", tmp_path / "stacks", section=part) for part in ("training", "testing")}
    assert [entry["case"] for entry in cut["training"]] == ["spect_mri_7003"]
    assert [entry["case"] for entry in cut["testing"]] == ["spect_mri_8007"]
    mri, meta = read_image(cut["training"][0]["image"])
    spect, _ = read_image(cut["training"][0]["image2"])
    assert mri.shape == spect.shape == (10, 12, 14)
    assert mri[5, 5].tolist() == [10 * number for number in SLICES[7]]
    assert spect[5, 5].tolist() == [10 * number + 1 for number in SLICES[7]]  # the luma of a grey in color
    assert (mri[0, 0] == 0).all() and np.diag(meta["affine"])[:2].tolist() == [-1, -1]
    assert head_stacks(atlas, "spect_mri", tmp_path / "stacks")[0] == cut["training"][0]


def test_no_head_is_long_enough(atlas, tmp_path):
    with pytest.raises(FusionInputError, match="heads of 40 consecutive slices"):
        head_stacks(atlas, "spect_mri", tmp_path / "stacks", least=40)


@pytest.mark.parametrize("distance", [1.0, 3.0, 5.5])
def test_the_distance_of_slices_is_estimated(distance):
    i, j, k = np.meshgrid(np.arange(48.0), np.arange(48.0), distance * np.arange(20.0), indexing="ij")
    blobs = sum(np.sin(i / rate + at) * np.sin(j / rate) * np.sin(k / rate + 2 * at) for at, rate in enumerate((9, 11)))
    assert estimated_distance(blobs) == pytest.approx(distance, rel=0.25)
