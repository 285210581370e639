"""Where the fused volumes of real pairs lie, asked of two libraries; and what flips and other axis orders change."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.batch import fuse_cases
from clinicalfmamba_nets.engine.fusion.options import FuseOptions

TEMPLATES = "spm_mni2mm/avg152T1.nii"
PAIRS = {
    "brats": ("brats_gli_00001/BraTS-GLI-00001-000-t2w.nii.gz", "brats_gli_00001/BraTS-GLI-00001-000-t2f.nii.gz"),
    "tcga": ("tcga_fg_6692/TCGA-FG-6692_t2.nii.gz", "tcga_fg_6692/TCGA-FG-6692_flair.nii.gz"),
    "two grids": (
        "tcga_fg_6692_native/TCGA-FG-6692_native_t2.nii.gz",
        "tcga_fg_6692_native/TCGA-FG-6692_native_flair.nii.gz",
    ),
    "negative": ("brats2013_pat0001/T1c_subtrMeanDivStd.nii.gz", "brats2013_pat0001/Flair_subtrMeanDivStd.nii.gz"),
    "template t2": ("spm_mni2mm/avg152T2.nii", "clinical_mni2mm/gg-flair-181-asym-8mmFWHM.nii"),
    "template ct": (TEMPLATES, "clinical_mni2mm/scct.nii"),
    "template pet": (TEMPLATES, "spm_mni2mm/PET.nii"),
    "mirrored, big endian": (TEMPLATES, "spm_mni2mm/SPECT.nii"),
    "big endian first": ("spm_mni2mm/SPECT.nii", TEMPLATES),
    "nrrd": ("tcga_02_0003/brain1_image.nrrd", "tcga_02_0003/brain1_label.nrrd"),
}
# Order of the axes, and those that are flipped.
ORDERS = [((0, 1, 2), (0,)), ((2, 0, 1), ()), ((1, 0, 2), (0, 1))]
FLIPS = [flips for count in range(4) for flips in itertools.combinations(range(3), count)]
ALL_ORDERS = [(order, flips) for order in itertools.permutations(range(3)) for flips in FLIPS]


@pytest.fixture
def fused_by(toy_bundles, tmp_path, monkeypatch):
    """Fuse a pair with the small network and return the path of the result."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))

    def run(image: Path, image2: Path, name: str) -> Path:
        case = {"case": name, "image": str(image), "image2": str(image2)}
        report = fuse_cases([case], tmp_path / "out", FuseOptions(task="t2_flair", bundle="fusion_3d"))
        assert report.count("done") == 1, report.first_error()
        told = json.loads((tmp_path / "out" / "run.json").read_text())["outputs"][0]
        return tmp_path / "out" / told["fused"]

    return run


def place(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Size, and where ITK sees the first, second and last voxels of each axis, in LPS mm."""
    import itk

    image = itk.imread(str(path), itk.F)
    size = [int(side) for side in image.GetLargestPossibleRegion().GetSize()]
    corners = [[0, 0, 0], [size[0] - 1, 0, 0], [0, size[1] - 1, 0], [0, 0, size[2] - 1]]
    points = [list(image.TransformIndexToPhysicalPoint(corner)) for corner in corners]
    return tuple(size), np.array([*points, list(image.GetSpacing())])


def assert_same_place(fused: Path, first: Path) -> None:
    if first.suffix != ".nrrd":
        result, source = nibabel.load(fused), nibabel.load(first)
        assert result.shape == source.shape and result.get_data_dtype() == source.get_data_dtype()
        assert np.abs(result.affine - source.affine).max() < 1e-4
        assert np.allclose(result.header.get_zooms(), source.header.get_zooms())
        assert (result.dataobj.slope, result.dataobj.inter) == (source.dataobj.slope, source.dataobj.inter)
    size, points = place(fused)
    wanted_size, wanted = place(first)
    assert size == wanted_size and np.abs(points - wanted).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_every_real_pair_keeps_the_place_of_its_first_volume(fused_by, shared_data, name):
    first, second = (shared_data / "vol" / path for path in PAIRS[name])
    assert_same_place(fused_by(first, second, "case"), first)


def crop(shared_data: Path, folder: Path, order=(0, 1, 2), flips=()) -> list[Path]:
    """Files of a small part of a real pair, stored in another order of axes with the affine that says so."""
    paths = []
    for number, name in enumerate(PAIRS["template t2"]):
        image = nibabel.load(shared_data / "vol" / name).slicer[28:52, 36:56, 36:54]
        array, affine = np.asarray(image.dataobj), image.affine.copy()
        for axis in flips:
            affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
            affine[:, axis] *= -1
        turned = np.flip(array, flips).transpose(order).astype(np.float32)
        paths.append(folder / f"{number}.nii.gz")
        folder.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(turned, affine[:, [*order, 3]]), paths[-1])
    return paths


def assert_order_is_kept(fused_by, shared_data, folder: Path, order, flips, plain) -> None:
    paths = crop(shared_data, folder, order, flips)
    fused = fused_by(*paths, folder.name)
    assert_same_place(fused, paths[0])
    back = np.flip(np.asarray(nibabel.load(fused).dataobj).transpose(np.argsort(order)), flips)
    assert np.array_equal(back, plain), (order, flips)  # turned to one order for the network


@pytest.mark.parametrize("orders", [ORDERS, pytest.param(ALL_ORDERS, marks=pytest.mark.slow)], ids=["some", "all"])
def test_axis_orders_and_flips_are_kept(fused_by, shared_data, tmp_path, orders):
    plain = np.asarray(nibabel.load(fused_by(*crop(shared_data, tmp_path / "plain"), "plain")).dataobj)
    for number, (order, flips) in enumerate(orders):
        assert_order_is_kept(fused_by, shared_data, tmp_path / f"turned{number}", order, flips, plain)
