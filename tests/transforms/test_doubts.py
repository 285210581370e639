"""Pictures of a CT in a wide window, in which bone is grey: told, and no other picture is."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from benchmarks.windows import hounsfield
from clinicalfmamba_nets.functional.voi import HEAD_CURVE
from clinicalfmamba_nets.transforms import WindowIntensityPair

TOLD = (
    "its bone is grey, as in a wide window, and may be lost where the other image is dark; give the CT in HU, or a pic"
)
SIDE = 64


def is_told(mr: np.ndarray, ct: np.ndarray) -> bool:
    """Tell whether an 8-bit picture of a CT, second to one of an MR, is warned of."""
    sources = [{"name": name, "modality": name, "dtype": "uint8"} for name in ("MR", "CT")]
    planes = torch.as_tensor(np.stack([mr, ct]).astype(np.float32))
    return TOLD in WindowIntensityPair()(MetaTensor(planes, meta={"sources": sources})).meta.get("warnings", "")


def rendered(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    return (255 * np.clip((hu - low) / (high - low), 0, 1)).round()


def head() -> tuple[np.ndarray, np.ndarray]:
    """MR and HU of a head: skin, bone of 400 to 1200 HU, brain of 20 to 50 HU."""
    random = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE)))
    mr, hu = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), -1000.0)
    for limit, signal, least, greatest in ((0.95, 220, 0, 30), (0.9, 10, 400, 1200), (0.8, 130, 20, 50)):
        inside = radius < limit
        mr[inside], hu[inside] = signal, random.uniform(least, greatest, inside.sum())
    return mr, hu


@pytest.mark.parametrize(("low", "high", "told"), [(0, 80, 0), (-150, 250, 0), (-500, 1300, 1), (-800, 2000, 1)])
def test_grey_bone_is_told(low, high, told):
    mr, hu = head()
    assert is_told(mr, rendered(hu, low, high)) == told


@pytest.mark.parametrize(("low", "high"), [(0, 80), (-50, 250), (-150, 250)])
def test_a_brain_without_its_skull_is_not_told(low, high):
    mr, hu = head()
    bare = ndimage.binary_erosion(hu > -500, iterations=8)
    assert not is_told(mr * bare, rendered(np.where(bare, hu, low), low, high))


@pytest.mark.slow
def test_no_picture_of_the_atlas_is_told_with_or_without_its_skull(shared_data):
    files = sorted((shared_data / "aanlib" / "CT-MRI" / "CT").glob("*.png"))
    for file in files:
        ct, mr = (np.asarray(Image.open(path), float) for path in (file, file.parents[1] / "MRI" / file.name))
        assert not is_told(mr, ct), file
        bone = ndimage.binary_dilation(ct >= 0.9 * 255, iterations=2)
        assert not is_told(mr * ~bone, ct * ~bone), file
    assert len(files) == 164


def test_a_template_is_told_in_windows_that_lose_bone_and_in_no_other(shared_data):
    """Of slices that are told 17 % of the bone keeps less than .7 of its brightness, of the others .3 %."""
    volumes = shared_data / "vol"
    hu = hounsfield(nibabel.load(volumes / "clinical_mni2mm" / "scct.nii").get_fdata())
    mr = nibabel.load(volumes / "spm_mni2mm" / "avg152T1.nii").get_fdata()
    places = range(20, 76, 5)
    windows = {"brain": (0, 80), "soft": (-150, 250), "0-1000": (0, 1000), "bone": (-800, 2000)}
    told = {
        name: sum(is_told(mr[:, :, place], rendered(hu[:, :, place], *ends)) for place in places)
        for name, ends in windows.items()
    }
    curve = 255 * np.interp(hu, *zip(*HEAD_CURVE, strict=True))
    told["head"] = sum(is_told(mr[:, :, place], curve[:, :, place].round()) for place in places)
    assert told == {"brain": 0, "soft": 0, "0-1000": 12, "bone": 10, "head": 0}
