"""Where the second volume ends the result is the first one, told and not hidden."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.transforms import LoadImagePaird, RestoreIntensityd, WindowIntensityPaird
from clinicalfmamba_nets.transforms.coverage import missing_text
from clinicalfmamba_nets.transforms.placing import put_on_grid
from clinicalfmamba_nets.transforms.sources import Source

SHAPE, AFFINE = (24, 26, 20), np.diag([-2.0, -2.0, 5.0, 1.0])


def head(shape=SHAPE) -> np.ndarray:
    """A ball of 500 with a texture, 0 outside."""
    index = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    inside = (index[:2] ** 2).sum(0) < 0.7
    return np.where(inside, 500 + 40 * np.sin(7 * index.sum(0)), 0).astype(np.float32)


def files(folder, slices: slice) -> tuple[str, str]:
    volume, moved = head(), AFFINE.copy()
    moved[2, 3] = 5 * (slices.start or 0)
    paths = str(folder / "mr.nii.gz"), str(folder / "ct.nii.gz")
    write_image(paths[0], volume, affine=AFFINE)
    write_image(paths[1], np.where(volume > 0, 900 - volume, 0)[:, :, slices], affine=moved)
    return paths


def load(paths, **options):
    steps = LoadImagePaird(other_grid="resample", **options), WindowIntensityPaird(task="t2_flair")
    entry = dict(zip(("image", "image2"), paths, strict=True))
    for step in steps:
        entry = step(entry)
    return entry


@pytest.mark.parametrize(
    ("slices", "share", "where"),
    [(slice(0, 12), 60, "missing 40 mm at S"), (slice(9, None), 55, "missing 45 mm at I")],
)
def test_uncovered_slices_are_the_first_image_to_the_last_bit(tmp_path, slices, share, where):
    entry = load(files(tmp_path, slices))
    meta = entry["image"].meta
    assert meta["coverage"] == pytest.approx(share / 100)
    assert f"covers {share} %" in meta["warnings"] and where in meta["warnings"]
    entry["pred"] = MetaTensor(torch.rand(1, *SHAPE))
    fused = RestoreIntensityd()(entry)["pred"][0].numpy()
    outside = np.ones(SHAPE[2], bool)
    outside[slices] = False
    assert np.array_equal(fused[..., outside], head()[..., outside])
    assert not np.array_equal(fused[..., ~outside], head()[..., ~outside])


def test_a_small_share_is_refused_unless_asked_for(tmp_path):
    paths = files(tmp_path, slice(18, None))
    with pytest.raises(FusionInputError, match=r"ct.nii.gz: expected .* a quarter of .*mr.nii.gz, found 10 % of it"):
        load(paths)
    meta = load(paths, allow_partial=True)["image"].meta
    assert meta["coverage"] == pytest.approx(0.1) and "covers 10 %" in meta["warnings"]


def test_a_covered_pair_tells_nothing(tmp_path):
    meta = load(files(tmp_path, slice(0, None)))["image"].meta
    assert meta["coverage"] == 1 and "covered" not in meta and not meta["warnings"]


def test_padding_counts_as_not_covered_where_the_head_is():
    volume = head()
    hole = np.zeros(SHAPE, bool)
    hole[:, :, 15:] = True
    first = Source(volume, "mr", affine=AFFINE, modality="MR")
    second = Source(np.where(hole, 0, volume), "ct", affine=AFFINE, modality="CT", background=hole)
    placed = put_on_grid(first, second)
    assert np.array_equal(placed.covered, ~hole)
    assert placed.warnings == ["CT covers 75 %: the rest shows the MR alone (missing 25 mm at S)"]
    first.coordinates, second = "none", Source(second.array, "ct", affine=AFFINE, background=hole, coordinates="none")
    assert any("(missing 5 voxels at one end)" in text for text in put_on_grid(first, second).warnings)
    first.coordinates = "patient"
    corners = Source(volume, "ct", affine=AFFINE, background=volume == 0)
    assert put_on_grid(first, corners).warnings == []


@pytest.mark.parametrize(("axis", "sign", "word"), [(0, 1, "R"), (0, -1, "L"), (1, 1, "A"), (1, -1, "P"), (2, -1, "I")])
def test_the_missing_side_is_named_by_the_affine(axis, sign, word):
    covered, affine = np.ones((6, 6, 6), bool), np.diag([3.0, 3.0, 3.0, 1.0])
    covered[tuple(slice(4, None) if other == axis else slice(None) for other in range(3))] = False
    affine[axis, axis] *= sign
    assert missing_text(covered, affine) == f"missing 6 mm at {word}"
