"""Data lists: what is found, what is refused, and that no two cases share a name."""

from __future__ import annotations

import json

import pytest

from clinicalfmamba_nets.data import folder_datalist, load_datalist, two_folders_datalist, unique_cases
from clinicalfmamba_nets.errors import FusionInputError


@pytest.fixture
def pairs(tmp_path):
    """Folder with two cases of equal file names."""
    for name in ["c0/m1.png", "c1/m1.png", "c0/ct.png", "c1/ct.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write_list(folder, content):
    """Write a list file and return its path."""
    path = folder / "list.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_entries_are_absolute_and_cases_unique(pairs):
    entries = [{"image": f"c{i}/m1.png", "image2": f"c{i}/ct.png"} for i in (0, 1)]
    found = load_datalist(write_list(pairs, {"testing": entries}))
    assert [entry["case"] for entry in found] == ["c0_m1", "c1_m1"]
    assert [entry["image"] for entry in found] == [str(pairs / "c0/m1.png"), str(pairs / "c1/m1.png")]
    assert [entry["image2"] for entry in found] == [str(pairs / "c0/ct.png"), str(pairs / "c1/ct.png")]


def test_equal_cases_get_numbers():
    entries = [{"image": "a.png", "case": case} for case in ["x", "X", "x", "../x", 7, ""]]
    names = [entry["case"] for entry in unique_cases(entries)]
    assert names == ["x", "X_2", "x_3", "x_4", "7", "a"]


@pytest.mark.parametrize("key, section", [("testing", "testing"), ("test", "testing"), ("training", "training")])
def test_sections_and_modality_keys(pairs, key, section):
    path = write_list(pairs, {key: [{"ct": "c0/ct.png", "mri": "c0/m1.png", "slice": 4}]})
    (entry,) = load_datalist(path, section)
    assert entry["image"].endswith("m1.png") and entry["image2"].endswith("ct.png") and entry["case"] == "m1"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_lists_as_editors_of_windows_write_them(pairs, encoding):
    path = pairs / "list.json"
    path.write_bytes(json.dumps({"testing": [{"image": "c0/m1.png", "image2": "c0/ct.png"}]}).encode(encoding))
    assert [entry["case"] for entry in load_datalist(path)] == ["m1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"testing": [ {"image": ', "list.json: expected a data list .* not JSON"),
        ("", "0 bytes"),
        ('{"testing": [], "testing": [{"image": "c0/m1.png"}]}', "list.json: expected the key 'testing' once"),
        (
            '{"testing": [{"image": "c0/m1.png", "image2": "c0/m1.png", "image2": "c0/ct.png"}]}',
            "the key 'image2' once",
        ),
        ({"testing": []}, "expected pairs under the key 'testing', found an empty list"),
        ({"other": []}, "expected a list under the key 'testing', found the keys 'other'"),
        ({"testing": {"image": "a"}}, "found a dict"),
        ({"testing": [3]}, "entry 1: expected an entry with image and image2"),
        ({"testing": [{"label": "a.png"}]}, "entry 1: expected image and image2, found the keys 'label'"),
        ({"testing": [{"image": 3, "image2": "c0/ct.png"}]}, "the names of two files"),
        ({"testing": [{"image": ["c0/m1.png"] * 3}]}, "the names of two files"),
        ({"testing": [{"image": "c0/m1.png\0", "image2": "c0/ct.png"}]}, "the names of two files"),
        ({"testing": [{"image": "c0/m1.png", "image2": "c0/gone.png"}]}, "entry 1, image2: .* no such file"),
        ({"testing": [{"image": "../../etc/hostname", "image2": "c0/ct.png"}]}, "leads out of it"),
        ({"testing": [{"image": "link.png", "image2": "c0/ct.png"}]}, "leads out of it"),
        ('{"testing": ' + "[" * 100000, "not JSON"),
        ({"testing": [{"image": "\ud800", "image2": "c0/ct.png"}]}, "the name of a file"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(pairs, content, message):
    (pairs / "link.png").symlink_to(__file__)
    with pytest.raises(FusionInputError, match=message) as error:
        load_datalist(write_list(pairs, content))
    assert "\n" not in str(error.value) and "list.json" in str(error.value)


def test_a_bad_entry_is_kept_with_its_error(pairs):
    entries = [{"image": "gone.png", "image2": "c0/ct.png"}, {"image": "c1/m1.png", "image2": "c1/ct.png"}]
    first, second = load_datalist(write_list(pairs, {"testing": entries}), strict=False)
    assert "no such file" in first["error"] and first["image"] == "gone.png" and first["case"] == "gone"
    assert "error" not in second and second["case"] == "m1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing_file.json", "entry 2, image: expected a file, found no such file: .*nowhere.nii.gz"),
        ("traversal.json", "entry 1, image: .*etc/hostname, which leads out of it"),
        ("not_json.json", "not_json.json: expected a data list"),
    ],
)
def test_the_bad_lists_are_refused(shared_data, name, message):
    with pytest.raises(FusionInputError, match=message):
        load_datalist(shared_data / "bad" / "datalists" / name, base_dir=shared_data / "bad")


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        (["MRI/7.png", "CT/7.png", "MRI/8.png", "CT/8.png", "MRI/9.png"], ["7", "8"]),
        (["7_mri.png", "7_ct.png", "8-MRI.png", "8-CT.png", "notes.txt"], ["7", "8"]),
        (["p7/mri.nii.gz", "p7/ct.nii.gz", "p8/t1_x.nii.gz"], None),
        (["p7/t2.nii.gz", "p7/flair.nii.gz", "p8/x_t2w.nii.gz", "p8/x_t2f.nii.gz"], ["p7", "p8"]),
    ],
)
def test_folder_layouts(tmp_path, names, cases):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    if cases is None:
        with pytest.raises(FusionInputError, match="expected images of two modalities, found mri, t1, ct"):
            folder_datalist(tmp_path)
        cases = ["p7"]
    found = folder_datalist(tmp_path, ("mri", "ct") if "p8/t1_x.nii.gz" in names else None)
    assert [entry["case"] for entry in found] == cases
    assert all("ct" in entry["image2"].lower() or "f" in entry["image2"] for entry in found)


def test_hidden_files_and_folders_are_no_images(tmp_path):
    for name in ("MRI/7.png", "CT/7.png", "8_mri.png", "8_ct.png", "9/mri.nii.gz", "9/ct.nii.gz", ".Trash/mri.png"):
        for place in (tmp_path / name, (tmp_path / name).with_name("._" + name.split("/")[-1])):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"x")
    (tmp_path / ".Trash" / "ct.png").write_bytes(b"x")
    assert [entry["case"] for entry in folder_datalist(tmp_path)] == ["7", "8", "9"]
    assert [entry["case"] for entry in two_folders_datalist(tmp_path / "MRI", tmp_path / "CT")] == ["7"]


def test_results_beside_their_sources_are_no_images_of_a_folder(tmp_path):
    for name in ("mr.nii.gz", "ct.nii.gz", "mr_fused.nii.gz", "mr_preview.png", "mr_weights.nii.gz"):
        (tmp_path / "7").mkdir(exist_ok=True)
        (tmp_path / "7" / name).write_bytes(b"x")
    with pytest.raises(FusionInputError, match="one mri image of each case, found mr.nii.gz and mr_fused.nii.gz"):
        folder_datalist(tmp_path)  # nothing tells that this is a result
    (tmp_path / "7" / "run.json").write_text("{}")
    (entry,) = folder_datalist(tmp_path)
    assert (entry["image"], entry["image2"]) == (str(tmp_path / "7/mr.nii.gz"), str(tmp_path / "7/ct.nii.gz"))


def test_folders_without_pairs(tmp_path):
    with pytest.raises(FusionInputError, match="no such folder"):
        folder_datalist(tmp_path / "gone")
    with pytest.raises(FusionInputError, match="expected image pairs, found none"):
        folder_datalist(tmp_path)
    (tmp_path / "7_mri.png").write_bytes(b"x")
    with pytest.raises(FusionInputError, match="images of mri without a partner"):
        folder_datalist(tmp_path)


def test_a_bids_folder(tmp_path):
    def put(*names):
        for name in names:
            path = tmp_path / "bids" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    put("sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_acq-3d_FLAIR.nii.gz", "sub-01/anat/sub-01_T2w.json")
    put("sub-02/ses-a/anat/sub-02_ses-a_T2w.nii", "sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz")
    for run in (1, 2):
        put(*(f"sub-03/anat/sub-03_run-{run}_{suffix}.nii.gz" for suffix in ("T2w", "FLAIR")))
    put("derivatives/sub-01/anat/sub-01_T2w.nii.gz", "participants.tsv", "sub-04/anat/sub-04_FLAIR.nii.gz")
    entries = folder_datalist(tmp_path / "bids")
    assert [entry["case"] for entry in entries] == ["sub-01", "sub-02_ses-a", "sub-03_run-1", "sub-03_run-2"]
    assert all("_T2w" in entry["image"] and "_FLAIR" in entry["image2"] for entry in entries)
    put("sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(FusionInputError, match="found t1, t2, flair; name the two images, or give a data list"):
        folder_datalist(tmp_path / "bids")
    assert len(folder_datalist(tmp_path / "bids", ("t2", "flair"))) == 4
    put("sub-01/anat/sub-01_T2w.nii")
    with pytest.raises(FusionInputError, match="one t2 image of each subject.*, found sub-01/anat/sub-01_T2w.nii and "):
        folder_datalist(tmp_path / "bids", ("t2", "flair"))


def test_two_files_of_one_image_are_one(tmp_path):
    for name in ("a_t2.hdr", "a_t2.img", "a_flair.img", "a_flair.hdr"):
        (tmp_path / name).write_bytes(b"x")
    (entry,) = folder_datalist(tmp_path)
    assert entry["image"].endswith("a_t2.img") and entry["image2"].endswith("a_flair.img")


def test_two_images_of_one_case_and_modality_are_told(tmp_path):
    for name in ("MRI/a.png", "MRI/a.nii.gz", "CT/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FusionInputError, match="one mri image of each case, found a.nii.gz and a.png"):
        folder_datalist(tmp_path)


def test_two_folders_are_paired_by_name(tmp_path, caplog):
    names = ["MRI/7.png", "MRI/8.png", "MRI/head_mri.png", "CT/7.png", "CT/9.png", "CT/head_ct.png", "CT/notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = two_folders_datalist(tmp_path / "MRI", tmp_path / "CT")
    assert [(entry["case"], entry["image"], entry["image2"]) for entry in found] == [
        ("7", str(tmp_path / "MRI/7.png"), str(tmp_path / "CT/7.png")),
        ("head", str(tmp_path / "MRI/head_mri.png"), str(tmp_path / "CT/head_ct.png")),
    ]
    assert "2 images without a partner left out: 8, 9" in caplog.text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a/1.png", "b/2.png"], "expected images of equal names, found 1 and 1 images, no name in both"),
        (["a/1_t2.png", "a/1_flair.png", "b/1.png"], "expected one image of each name, found 1_flair.png and 1_t2.png"),
    ],
)
def test_two_folders_that_are_no_pairs(tmp_path, names, told):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FusionInputError, match=told):
        two_folders_datalist(tmp_path / "a", tmp_path / "b")
