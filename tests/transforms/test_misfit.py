"""Heads that do not lie on each other are told, those that do are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import rotate

from clinicalfmamba_nets.data.volume_phantom import brain_volumes
from clinicalfmamba_nets.transforms import WindowIntensityPair
from clinicalfmamba_nets.transforms.misfit import Fit, measure_fit

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


@pytest.fixture(scope="module")
def volumes() -> tuple[np.ndarray, np.ndarray]:
    found = brain_volumes((44, 52, 40))
    return found["t2"], found["flair"]


def told(first, second, affine=AFFINE, window="auto") -> str:
    image = MetaTensor(torch.from_numpy(np.stack([first, second]).astype(np.float32)), affine=torch.tensor(affine))
    return WindowIntensityPair(check_fit=True, window_b=window)(image).meta.get("warnings", "")


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-4.0, -4.0, 4.0, 1.0])])
def test_heads_on_each_other_are_no_misfit(volumes, affine):
    assert told(*volumes, affine) == ""


def test_a_window_that_hides_a_head_is_told_and_no_misfit_made_of_it(volumes):
    """The advice was to register what lay well, and after that to align it by hand."""
    low, high = np.percentile(volumes[1][volumes[1] > 0], (93, 100))
    warnings = told(*volumes, window=f"{low}-{high}").splitlines()
    assert len(warnings) == 1 and "of the head lies below the window that was asked for" in warnings[0]
    turned = rotate(volumes[1], 18, axes=(0, 1), reshape=False, order=1)
    assert "--register rigid" in told(volumes[0], turned, window=f"{low}-{high}")


@pytest.mark.parametrize(("degrees", "axes"), [(18, (0, 1)), (-12, (1, 2)), (10, (0, 2))])
def test_a_turned_head_is_told(volumes, degrees, axes):
    turned = rotate(volumes[1], degrees, axes=axes, reshape=False, order=1)
    assert "--register rigid" in told(volumes[0], turned)


@pytest.mark.parametrize("noise", [0.1, 0.2])
def test_the_noise_of_a_head_is_no_misfit_of_it(volumes, noise):
    """Each turn smoothed the noise of a thin CT, or of few counts, and seemed to fit better than the place it had."""
    first, second = (np.clip(volume / np.percentile(volume[volume > 0], 99), 0, 1) for volume in volumes)
    rng = np.random.default_rng(0)

    def fit(moved):
        return measure_fit(np.stack([first, np.clip(moved + rng.normal(0, noise, moved.shape), 0, 1)]), AFFINE)

    assert fit(second).warning == ""
    assert "--register rigid" in fit(rotate(second, 12, axes=(0, 1), reshape=False, order=1)).warning
    assert "--register rigid" in fit(np.roll(second, 2, axis=1)).warning


@pytest.mark.parametrize("side", [0, 1])
def test_the_shading_of_a_coil_is_no_misfit(volumes, side):
    """An MR that is 6 times brighter at one side drew a PET or FLAIR there by 8 mm, by 1.06 to 1.5 times."""
    along = np.linspace(0, 1, volumes[0].shape[side]).reshape([-1 if axis == side else 1 for axis in range(3)])
    shaded = volumes[0] * (1 + 5 * along**2)
    assert told(shaded, volumes[1]) == ""
    assert "--register rigid" in told(shaded, np.roll(volumes[1], 3, axis=2))


def test_a_moved_head_is_told(volumes):
    assert "--register rigid" in told(volumes[0], np.roll(volumes[1], 3, axis=1))


def test_flat_images_and_few_voxels_tell_nothing():
    assert measure_fit(np.random.default_rng(0).random((2, 30, 30)), np.eye(4)) is None
    assert measure_fit(np.random.default_rng(0).random((2, 8, 8, 8)), np.eye(4)) is None


@pytest.fixture(scope="module")
def slab() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")
    radius = np.sqrt(x**2 + (y / 0.9) ** 2)
    inner = np.hypot(x - 0.3, y + 0.2) < 0.25
    tissue = 0.4 + 0.3 * np.cos(7 * x + 1) * np.cos(5 * y) + 0.2 * inner
    first = np.where(radius < 0.8, tissue, 0.0)
    second = np.where(radius < 0.8, np.where(radius > 0.7, 1.0, 0.2 + 0.8 * (1 - tissue) ** 2), 0.0)
    return np.stack([np.repeat(image[..., None], 12, axis=2) for image in (first, second)]).astype(np.float32)


@pytest.mark.parametrize("thickness", [0.3, 0.625, 1.0, 3.0])
def test_a_thin_slab_has_too_few_voxels_for_a_verdict_only_where_all_of_them_are(slab, thickness):
    affine = np.diag([-1.0, -1.0, thickness, 1.0])
    assert told(*slab, affine) == ""
    turned = rotate(slab[1], 25, axes=(0, 1), reshape=False, order=1)
    assert "--register rigid" in told(slab[0], np.roll(turned, 6, axis=0), affine)


def test_an_image_without_structure_in_the_head_tells_nothing(slab):
    mask = np.where(slab[0] > 0, 0.99 + 0.01 * slab[1], 0.0).astype(np.float32)
    assert told(slab[0], mask, np.diag([1.0, 1.0, 2.0, 1.0])) == ""


@pytest.mark.parametrize("which", [0, 1])
def test_an_image_brightest_around_the_head_is_no_misfit(slab, which):
    slab = slab.copy()
    slab[which] = 1 - slab[which]
    white = (
        f"image {'AB'[which]}: white around the head, as in a picture that was inverted: invert it, so that air is dark"
    )
    assert told(*slab, np.diag([1.0, 1.0, 2.0, 1.0])) == white


@pytest.mark.parametrize(("axis", "side"), [(0, "left to right"), (1, "front to back"), (2, "top to bottom")])
def test_a_second_image_that_is_mirrored_is_told_as_that(axis, side):
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 48),) * 3, indexing="ij")
    head = (x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.85) ** 2 < 1
    spot = ((x - 0.4) ** 2 + (y - 0.3) ** 2 + (z + 0.3) ** 2) < 0.1
    first = head * (0.5 + 0.1 * np.sin(9 * x + 2) * np.cos(7 * y + z)) + 0.3 * spot
    second = head * (0.9 - first)
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    assert measure_fit(np.stack([first, second]), affine).warning == ""
    told = measure_fit(np.stack([first, np.flip(second, axis)]), affine).warning
    assert told.startswith(f"the second image fits better mirrored {side} (mutual information ")
    assert "its sides may be exchanged, check its orientation" in told
    lost = measure_fit(np.stack([first, np.flip(second, axis)]), affine, sided=False).warning
    assert lost == told.replace(side, f"along axis {axis + 1}")


def test_a_symmetric_noisy_head_is_not_taken_for_a_mirrored_one():
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 48),) * 3, indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.85) ** 2)
    head = (radius < 1) * (0.9 - 0.4 * radius)
    rng = np.random.default_rng(0)
    for _ in range(3):
        noisy = [np.clip(head + rng.normal(0, 0.05, head.shape), 0, 1) for _ in range(2)]
        assert "mirrored" not in measure_fit(np.stack(noisy), np.diag([-4.0, -4.0, 4.0, 1.0])).warning


def test_a_symmetric_head_that_fits_mirrored_by_chance_is_no_mirrored_one():
    """A PET with little left-right difference was told to have its sides exchanged by 0.212 in place of 0.208."""
    assert Fit(0.208, 1.0212, "mirrored left to right").warning == ""
    assert "sides may be exchanged" in Fit(0.208, 1.04, "mirrored left to right").warning
    assert "--register rigid" in Fit(0.208, 1.0212, "turned by 8 degrees").warning


def test_a_registration_that_failed_is_told_as_such():
    fit = Fit(0.01, 1.5, "turned by 16 degrees")
    assert fit.warning.endswith("align them with --register rigid")
    assert fit._replace(registered=True).warning.endswith("registration failed, align them by hand")
