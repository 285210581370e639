"""Two volumes on two grids: refused, interpolated by their affines, or registered first."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.io.transform_file import LPS
from clinicalfmamba_nets.spatial import registration
from clinicalfmamba_nets.transforms import LoadImagePair, SaveFused
from clinicalfmamba_nets.transforms.placing import put_on_grid
from clinicalfmamba_nets.transforms.sources import Source, from_array

GRID = np.diag([2.0, 2.0, 3.0, 1.0])


def ramp(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """A volume whose values tell where they lie: x + 10 y + 100 z in mm."""
    index = np.indices(shape).reshape(3, -1)
    return ([1, 10, 100, 0] @ affine @ np.vstack([index, np.ones(index.shape[1])])).reshape(shape)


@pytest.fixture
def files(tmp_path):
    other = np.array([[0, 1.5, 0, -1], [2.5, 0, 0, -2], [0, 0, 2.0, -3], [0, 0, 0, 1.0]])
    write_image(tmp_path / "a.nii.gz", ramp((8, 9, 7), GRID), affine=GRID)
    write_image(tmp_path / "b.nii.gz", ramp((14, 16, 16), other), affine=other)
    return tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"


def test_one_voxel_over_the_whole_first_image_names_its_size(files):
    _, second = files
    micro = GRID * [[1000], [1000], [1000], [1]]  # micrometres that no unit tells
    write_image(second, (np.indices((9, 9, 9))[0] > 4).astype(np.float32), affine=micro)
    expected = r"b.nii.gz: expected contrast where .*a.nii.gz lies, found .* there, by its place and its voxels of "
    with pytest.raises(FusionInputError, match=expected + "2000 x 2000 x 3000 mm; correct them in its header"):
        LoadImagePair(other_grid="resample")(*files)


def test_another_grid_is_refused_unless_it_may_be_interpolated(files):
    with pytest.raises(
        FusionInputError, match="b.nii.gz: expected the size 8 x 9 x 7 of .*a.nii.gz, found 14 x 16 x 16"
    ):
        LoadImagePair()(*files)
    image, _ = LoadImagePair(other_grid="resample")(*files)
    inside = image[:, 1:-1, 1:-1, 1:-1]
    assert torch.allclose(inside[0], inside[1], atol=1e-3)
    assert "b.nii.gz: interpolated on the grid of the first image (100 % of it covered)" in image.meta["notes"]
    assert image.meta["registration"] == ""


def test_a_registered_volume_is_moved_told_and_its_transform_written(files, tmp_path, monkeypatch):
    matrix = np.eye(4)
    matrix[:3, 3] = [1.0, -0.5, 1.5]
    asked = []

    def found(fixed, place, moving, moving_place, names, same_frame_of_reference):
        asked.append((fixed.shape, moving.shape, same_frame_of_reference))
        before, after = registration.Similarity(0.1, 0.8), registration.Similarity(0.2, 0.9, 2.0)
        return registration.RigidAlignment(matrix, np.zeros(3), before, after, ("look at the sides",))

    monkeypatch.setattr(registration, "register_rigid", found)
    image, _ = LoadImagePair(register="rigid")(*files)
    assert asked == [((8, 9, 7), (14, 16, 16), True)]
    inside = image[:, 1:-1, 1:-1, 1:-1]
    assert torch.allclose(inside[1] - inside[0], torch.tensor(1.0 - 10 * 0.5 + 100 * 1.5), atol=1e-3)
    assert "moved by 1.87 mm" in image.meta["notes"]
    assert "look at the sides" in image.meta["warnings"]
    SaveFused(tmp_path / "out")(image[:1], image.meta, "case_fused_7")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "case_fused_7_fused.nii.gz",
        "case_fused_7_registration.tfm",
    ]
    import itk

    read = itk.transformread(str(tmp_path / "out" / "case_fused_7_registration.tfm"))[0]
    assert np.allclose(read.TransformPoint([5.0, 6.0, 7.0]), (LPS @ matrix @ LPS @ [5, 6, 7, 1])[:3])


def test_flat_images_and_arrays_without_a_place_are_not_registered():
    with pytest.raises(FusionInputError, match="image: expected a volume to register, .*; leave out --register"):
        LoadImagePair(register="rigid")(np.eye(8), 1 - np.eye(8))


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="register: expected one of .*'rigid'.* found 'affine'"):
        LoadImagePair(register="affine")
    with pytest.raises(ValueError, match="other_grid: expected one of .*'resample'"):
        LoadImagePair(other_grid="bend")


def source(**facts) -> Source:
    return Source(np.zeros((4, 4, 4)), str(facts.pop("name")), affine=np.eye(4), **facts)


@pytest.mark.parametrize("register", ["none", "rigid"])
def test_two_patients_are_refused_without_naming_them(register):
    pair = source(name="one", patient="Smith17"), source(name="two", patient="Miller4")
    with pytest.raises(FusionInputError, match=r"two: expected the patient \(0010,0020\) of one") as told:
        put_on_grid(*pair, register=register)
    assert "Smith17" not in str(told.value)
    assert "Miller4" not in str(told.value)


@pytest.mark.parametrize(
    ("facts", "tag"),
    [
        (({"birth_date": "19600101"}, {"birth_date": "19610101"}), r"\(0010,0030\).*PatientBirthDate"),
        (({"patient_name": "Smith^Ann"}, {"patient_name": "Miller^Ann"}), r"\(0010,0010\).*PatientName"),
        (({"patient": "7", "patient_name": "Smith^A"}, {"patient_name": "Smith^B"}), "PatientName"),
        (({"sex": "F"}, {"sex": "M"}), r"\(0010,0040\).*PatientSex"),
    ],
)
def test_without_both_ids_name_and_birth_date_tell_patients_apart(facts, tag):
    pair = [source(name=name, **known) for name, known in zip(("one", "two"), facts, strict=True)]
    with pytest.raises(FusionInputError, match=f"two: expected the patient .*{tag}") as told:
        put_on_grid(*pair)
    assert not any(word in str(told.value) for word in ("Smith", "Miller", "1960", "1961"))


@pytest.mark.parametrize(
    ("first", "second", "tag"),
    [
        ({"patient_name": "Smith^Ann"}, {"patient_name": "Miller^Ann"}, "PatientName"),
        ({"birth_date": "19600101"}, {"birth_date": "19600102"}, "PatientBirthDate"),
        ({"patient_name": "SMITH^ANN^M"}, {"patient_name": "Smith, Ann"}, ""),
        ({"patient_name": "Ann Smith"}, {"patient_name": "Smith^Ann=X"}, ""),
        ({"patient_name": "Smith^Ann"}, {}, ""),
        ({"sex": "F"}, {"sex": "M"}, "PatientSex"),
        ({"sex": "f "}, {"sex": "F"}, ""),
        ({"sex": "F"}, {"sex": "O"}, ""),
        ({"sex": "F"}, {"sex": ""}, ""),
        ({"issuer": "North"}, {"issuer": "South"}, "IssuerOfPatientID"),
        ({"issuer": "North"}, {"issuer": "NORTH"}, ""),
    ],
)
def test_one_id_with_another_name_or_birth_date_is_a_warning(first, second, tag):
    pair = source(name="one", patient="7", **first), source(name="two", patient="7", **second)
    warnings = put_on_grid(*pair).warnings
    assert [tag in text for text in warnings] == [True] * bool(tag)
    assert not any("Smith" in text or "1960" in text for text in warnings)


@pytest.mark.parametrize(
    ("first", "second", "note", "warning"),
    [
        (
            ("1", "20240101100000"),
            ("2", "20240115100000"),
            "",
            "of two studies .*0020,000D.*, acquired 14 days apart: ",
        ),
        (("1", "20240101233000"), ("2", "20240102001500.5"), "of two studies .*, acquired 45 min apart", ""),
        (("1", "20240101"), ("2", "20240101101500"), "of two studies .*, acquired on one day", ""),
        (("1", "20240101"), ("2", "20240102101500"), "", "acquired 1 day apart: "),
        (("1", "20240101100000"), ("1", "20240103100000"), "", "^acquired 2 days apart: "),
        (("1", "20240101100000"), ("1", "20240101140000"), "", ""),
        (("1", ""), ("2", "20240101"), "", "of two studies .*without the times of both"),
        (("", ""), ("2", "20240101"), "", ""),
        (("", ""), ("", ""), "", ""),
    ],
)
def test_images_of_two_times_are_told_without_their_dates(first, second, note, warning):
    pair = (source(name=name, study=one[0], taken=one[1]) for name, one in (("one", first), ("two", second)))
    told = put_on_grid(*pair)
    for texts, expected in ((told.notes, note), (told.warnings, warning)):
        assert len(texts) == bool(expected) and all(re.search(expected, text) for text in texts)
        assert not any("2024" in text for text in texts)


def test_two_spaces_are_refused_or_registered_from_the_centers(monkeypatch):
    pair = source(name="one", frame_of_reference="1.2.3"), source(name="two", frame_of_reference="1.2.4")
    with pytest.raises(FusionInputError, match="found 1.2.4; register the two series first"):
        put_on_grid(*pair)
    spaces = []
    alignment = SimpleNamespace(
        moved=lambda affine: affine, text=lambda: "done", notes=("kept",), warnings=("unsure",), itk_text=lambda: "#"
    )
    monkeypatch.setattr(
        registration,
        "register_rigid",
        lambda *places, same_frame_of_reference: spaces.append(same_frame_of_reference) or alignment,
    )
    placed = put_on_grid(*pair, register="rigid")
    assert (placed.notes, placed.warnings, placed.transform) == (["done", "kept"], ["unsure"], "#")
    assert spaces == [False]


def test_an_image_that_is_named_twice_is_told():
    array = np.arange(24.0).reshape(4, 6)
    placed = put_on_grid(Source(array, "a.png"), Source(array.copy(), "b.png"))
    assert placed.warnings == ["the same pixels as a.png: one image is fused with itself; name the other one"]
    assert put_on_grid(Source(array, "a.png"), Source(array + 1, "b.png")).warnings == []
    assert put_on_grid(Source(array, "a", modality="MR"), Source(array, "b", modality="NM")).warnings == []


def test_a_copy_in_another_type_is_told():
    array = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    copies = array.astype(np.float32), array.astype(np.uint16) * 257, array / 255, array.astype(np.int16) * 2
    pairs = [(Source(array, "a.png"), Source(copy, "b.png")) for copy in (*copies, array[::-1])]
    assert [len(put_on_grid(*pair).warnings) for pair in pairs] == [1, 1, 1, 0, 0]


def test_a_copy_that_is_stored_in_another_order_is_told():
    array, flipped = np.random.default_rng(1).normal(size=(6, 7, 8)), np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 5
    placed = put_on_grid(
        Source(array, "a.nii", affine=np.eye(4)), Source(array[::-1].astype(np.float32), "b.nii", affine=flipped)
    )
    assert placed.warnings == ["the same pixels as a.nii: one image is fused with itself; name the other one"]


@pytest.mark.parametrize(
    ("path", "fused", "by"),
    [("/a/7_fused.nii.gz", False, "name"), ("/a/study", True, "header"), ("/fused/7.nii.gz", False, "")],
)
def test_an_earlier_result_as_a_source_is_told(path, fused, by):
    first, second = source(name="one", path=path, fused=fused), source(name="two", path="/a/ct.nii.gz")
    put_on_grid(first, second)
    told = f"a fused image by its {by}, which shows two images already: name the image of the scanner"
    assert (first.warnings, second.warnings) == ([told] if by else [], [])


def test_a_mask_of_an_array_is_not_lost():
    masked = np.ma.masked_greater(np.arange(6.0).reshape(2, 3), 4)
    with pytest.raises(
        FusionInputError, match="image: expected an array without a mask, found 1 masked values; .*filled"
    ):
        from_array(masked, "image")
    assert np.array_equal(from_array(masked.filled(0), "image").array, masked.filled(0))


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("sub-01_T1w.nii.gz", "sub-02_ct.nii.gz", "another subject"),
        ("sub-01_ses-1_T2w.nii.gz", "sub-01_ses-2_FLAIR.nii.gz", "another session"),
        ("patient7_mri.png", "patient_8_ct.png", "another subject"),
        ("BraTS19_2013_2_1_t2.nii.gz", "BraTS19_2013_3_1_flair.nii.gz", "another subject"),
        ("BraTS-GLI-00005-000-t2w.nii.gz", "BraTS-GLI-00006-000-t2f.nii.gz", "another subject"),
        ("BraTS-GLI-00005-000-t2w.nii.gz", "BraTS-GLI-00005-000-t2f.nii.gz", ""),
        ("sub-01_T1w.nii.gz", "sub-01_ct.nii.gz", ""),
        ("BraTS19_2013_2_1_t2.nii.gz", "BraTS19_2013_2_1_flair.nii.gz", ""),
        ("path12_mri.png", "path13_ct.png", ""),
        ("sub-01_T1w.nii.gz", "ct.nii.gz", ""),
    ],
)
def test_files_that_are_named_as_of_two_subjects_warn(first, second, told):
    warnings = put_on_grid(source(name="one", path=f"/a/{first}"), source(name="two", path=f"/b/{second}")).warnings
    assert len(warnings) == bool(told) and all(told in text for text in warnings)


def coded(path, affine, sform: int, qform: int = 0):
    """A ramp on a grid with the codes of its header."""
    import nibabel

    image = nibabel.Nifti1Image(ramp((8, 9, 7), affine).astype(np.float32), affine)
    image.header.set_sform(affine, sform)
    image.header.set_qform(affine if qform else None, qform)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("first", "second", "shifted", "told"),
    [
        ((4, 0), (1, 1), True, True),
        ((1, 1), (4, 0), True, True),
        ((1, 0), (3, 1), True, True),
        ((0, 1), (0, 4), True, True),
        ((4, 0), (4, 0), True, False),
        ((1, 1), (1, 1), True, False),
        ((2, 1), (4, 0), True, False),  # aligned with anything
        ((4, 0), (1, 1), False, False),  # on one grid
    ],
)
def test_the_spaces_of_a_template_and_of_a_scanner_do_not_compare(tmp_path, first, second, shifted, told):
    other = GRID.copy()
    other[0, 3] = 3.0 * shifted
    paths = coded(tmp_path / "a.nii.gz", GRID, *first), coded(tmp_path / "b.nii.gz", other, *second)
    image, _ = LoadImagePair(other_grid="resample")(*paths)
    assert ("one image lies in the space of a template" in image.meta["warnings"]) is told
