"""The head phantom shows in each contrast what it is meant to show."""

from __future__ import annotations

import numpy as np
import pytest

from clinicalfmamba_nets.data import head_phantom, nuclear_colors, write_phantom_pair
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image


@pytest.fixture(scope="module")
def phantom():
    """The phantom at its usual size."""
    return head_phantom(256)


def at(image, x, y, reach=3):
    """Mean brightness around a place given in half widths from the center."""
    row, column = int((y + 1) * 128), int((x + 1) * 128)
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1].mean()


def test_every_contrast_is_an_image(phantom):
    assert set(phantom) == {"ct", "t1", "t2", "flair", "mri", "spect", "pet"}
    for image in phantom.values():
        assert image.shape == (256, 256) and image.dtype == np.float32
        assert image.min() >= 0 and 0.6 < image.max() <= 1
    assert all((phantom[name][:10] == 0).all() for name in ("ct", "mri", "t1", "flair"))


def test_findings_show_where_they_should(phantom):
    lesion, hemorrhage, focus = (0.39, 0.20), (-0.33, -0.30), (-0.42, 0.10)
    mirrored = (-0.30, 0.10)
    assert at(phantom["mri"], *lesion) > at(phantom["mri"], *mirrored) + 0.25
    assert abs(at(phantom["ct"], *lesion) - at(phantom["ct"], *mirrored)) < 0.06
    assert at(phantom["ct"], *hemorrhage) > 0.6
    assert at(phantom["mri"], *hemorrhage) < 0.55
    assert at(phantom["ct"], 0, 0.205, 1) > 0.8 > at(phantom["mri"], 0, 0.205, 1) + 0.3  # calcified pineal gland
    assert at(phantom["spect"], *focus) == pytest.approx(phantom["spect"].max(), abs=0.15)


def test_seed_and_size():
    assert np.array_equal(head_phantom(64, 3)["ct"], head_phantom(64, 3)["ct"])
    assert not np.array_equal(head_phantom(64, 3)["ct"], head_phantom(64, 4)["ct"])
    with pytest.raises(ValueError, match="expected 32 or more, found 16"):
        head_phantom(16)


@pytest.mark.parametrize("contrast", ["ct", "t1", "t2", "flair"])
def test_a_plain_brain_is_even(contrast):
    image = head_phantom(128, seed=2, plain=True)[contrast]
    even = image[38:46, 79:87]
    assert even.min() > 0.2 and np.ptp(even) < 1e-3


def test_luma_of_the_color_map_rises():
    colors = nuclear_colors(np.linspace(0, 1, 101))
    assert (np.diff(colors @ [0.299, 0.587, 0.114]) > 0).all()


@pytest.mark.parametrize("task", ["ct_mri", "spect_mri", "pet_mri", "t2_flair"])
def test_pairs_are_written(tmp_path, task):
    mri, second = write_phantom_pair(tmp_path / "pair", task, size=48)
    assert read_image(mri)[0].shape == (48, 48)
    array, meta = read_image(second)
    assert meta["color"] == (task in ("spect_mri", "pet_mri")) and array.dtype == np.uint8
    assert second.stem in task.split("_") and second.stem != "mri"
    with pytest.raises(FusionInputError, match="task 'us_mri': expected one of ct_mri"):
        write_phantom_pair(tmp_path, "us_mri")
