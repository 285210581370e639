"""What one run leaves of an earlier one in the folder of its results."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.results import Results, color_name
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image

GREY, COLOR = np.arange(64, dtype=np.uint8).reshape(8, 8), "7_fused_color.png"


def made(folder, images, colored, fail=False):
    """Make the results of case 7 from two images, as a run does."""
    case = Case.of({"case": "7", "image": str(images / "a.png"), "image2": str(images / "b.png")})
    results = Results(folder, [case])
    with results.made(case, dict(case.entry())) as draft:
        names = [*results.names(case), *([color_name("7", ".png")] if colored else [])]
        for name in names:
            write_image(draft / name, GREY)
        if fail:
            raise RuntimeError("on the way")
    return sorted(item.name for item in folder.iterdir() if item.suffix == ".png")


@pytest.fixture
def images(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png", GREY if name == "a" else GREY.T)
    (tmp_path / "out").mkdir()
    return tmp_path / "in"


def test_a_colored_result_of_an_earlier_run_goes_with_the_grey_one_it_belonged_to(tmp_path, images):
    out = tmp_path / "out"
    assert made(out, images, True) == ["7_fused.png", COLOR, "7_preview.png"]
    assert made(out, images, True) == ["7_fused.png", COLOR, "7_preview.png"]
    assert made(out, images, False) == ["7_fused.png", "7_preview.png"]


@pytest.mark.parametrize("end", ["_weights.png", "_weights.nii.gz", "_registration.tfm"])
def test_what_an_earlier_run_made_beside_its_result_goes_too(tmp_path, images, end):
    """A transform of a registered pair lay beside the result of another one that was not registered."""
    for case in "78":
        (tmp_path / "out" / f"{case}{end}").write_bytes(b"earlier")
    made(tmp_path / "out", images, False)
    assert not (tmp_path / "out" / f"7{end}").exists() and (tmp_path / "out" / f"8{end}").exists()


def nifti_run(folder, volumes, ending, add=0):
    """Make the result of case 7 from two volumes of one ending, as a run does."""
    entry = {"case": "7"} | {key: str(volumes / f"{key}{ending}") for key in ("image", "image2")}
    for key in ("image", "image2"):
        write_image(entry[key], np.full((4, 5, 6), add, np.int16))
    results = Results(folder, [case := Case.of(entry)])
    results.is_done(case, {}, overwrite=True)
    with results.made(case, dict(case.entry())) as draft:
        for name in (results.names(case)[0], color_name("7", ending)):
            write_image(draft / name, np.full((4, 5, 6), add, np.int16))
        write_image(draft / results.names(case)[1], GREY)


@pytest.mark.parametrize(("first", "second"), [(".nii", ".nii.gz"), (".nii.gz", ".nii")])
def test_a_result_of_the_other_ending_of_nifti_goes(tmp_path, images, first, second):
    """Asked for 7_fused.nii.gz, ITK 5.4.7 (SimpleITK 2.5.7, and viewers built on it) shows 7_fused.nii beside it.

    `findings/itk_nifti_gz_gives_its_neighbor.sh`: header of the one, voxels of the other, which was the earlier result.
    """
    import itk

    nifti_run(tmp_path / "out", images, first, add=1)
    nifti_run(tmp_path / "out", images, second, add=2)
    kept = sorted(path.name for path in (tmp_path / "out").glob("7_fused*"))
    assert kept == [f"7_fused{second}", f"7_fused_color{second}"]
    assert np.unique(itk.imread(str(tmp_path / "out" / f"7_fused{second}"))).tolist() == [2]


def test_a_file_of_somebody_else_that_viewers_would_show_instead_is_refused(tmp_path, images):
    mine = tmp_path / "out" / "7_fused.nii"
    mine.write_bytes(b"mine")
    with pytest.raises(FusionInputError, match=r"7_fused\.nii: expected no file that programs built on ITK show"):
        nifti_run(tmp_path / "out", images, ".nii.gz")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["7_fused.nii"] and mine.read_bytes() == b"mine"


def test_a_failed_run_keeps_the_colored_result_too(tmp_path, images):
    out = tmp_path / "out"
    made(out, images, True)
    with pytest.raises(RuntimeError):
        made(out, images, False, fail=True)
    assert (out / COLOR).is_file()


@pytest.mark.parametrize("name", ["8_fused_color.png", "7_fused_color.nii.gz", "7_fused_color_old.png"])
def test_other_colored_files_stay(tmp_path, images, name):
    (tmp_path / "out" / name).write_bytes(b"mine")
    made(tmp_path / "out", images, False)
    assert (tmp_path / "out" / name).read_bytes() == b"mine"


def test_a_folder_of_somebody_else_stays(tmp_path, images):
    (tmp_path / "out" / COLOR).mkdir()
    (tmp_path / "out" / COLOR / "notes.txt").write_text("mine")
    made(tmp_path / "out", images, False)
    assert (tmp_path / "out" / COLOR / "notes.txt").read_text() == "mine"


def test_settings_that_differ_are_named_and_no_others(toy_cli, tmp_path):
    paths = [tmp_path / "mri.png", tmp_path / "ct.png"]
    for seed, path in enumerate(paths):
        write_image(path, np.random.default_rng(seed).integers(0, 256, (24, 24)).astype(np.float32))
    assert toy_cli("fuse", *paths, "-o", tmp_path / "out").code == 0
    cause = toy_cli("fuse", *paths, "-o", tmp_path / "out", "--window-b", "p1/p99").cause
    assert "expected a result made with window_b p1/p99, found window_b by default; add --overwrite" in cause


@pytest.mark.parametrize(
    ("ending", "shape", "asked", "told"),
    [
        (".png", (24, 20), ".dcm", "expected a DICOM series to derive from, found an image of another format"),
        (".nii", (24, 20, 6), ".dcm", "expected a DICOM series to derive from, found an image of another format"),
        (".nii", (24, 20, 6), ".png", "expected an image for .png, found a volume; write NIfTI instead"),
    ],
)
def test_a_format_that_cannot_hold_the_result_is_refused_before_the_fusion(tmp_path, ending, shape, asked, told):
    from clinicalfmamba_nets.engine.fusion.batch import fuse_cases
    from clinicalfmamba_nets.engine.fusion.options import FuseOptions

    for seed, name in enumerate(("mri", "ct")):
        write_image(tmp_path / f"{name}{ending}", np.random.default_rng(seed).integers(0, 255, shape), dtype="uint8")
    entry = {"case": "7", "image": str(tmp_path / f"mri{ending}"), "image2": str(tmp_path / f"ct{ending}")}

    def opened():
        raise AssertionError("a network was opened")

    fuse_cases([entry], tmp_path / "out", FuseOptions(task="ct_mri", output_ext=asked), prepare=opened)
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["outputs"][0]["error"].startswith(f"{tmp_path / f'mri{ending}'}: {told}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
