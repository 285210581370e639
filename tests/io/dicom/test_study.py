"""A study that is opened once: what each series carries, and that nothing is read twice."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom import files, study
from clinicalfmamba_nets.io.dicom.study import open_study


def mr_and_ct(make_series):
    folder = make_series(4, "study", SeriesInstanceUID="1.2.7", SeriesNumber=2, SeriesDescription="AX T2")
    make_series(3, "study", SeriesInstanceUID="1.2.8", SeriesNumber=3, Modality="CT", SeriesDescription="CT head")
    return folder


def test_each_header_is_read_once_and_the_folder_walked_once(make_series, monkeypatch):
    read, walked = [], []
    header, walk = study.read_header, files.walk_files
    monkeypatch.setattr(study, "read_header", lambda path: read.append(path) or header(path))
    monkeypatch.setattr(files, "walk_files", lambda *args: walked.append(args) or walk(*args))
    opened = open_study(mr_and_ct(make_series))
    opened.pair(), opened.choose("CT"), opened.text(), opened.pair(["CT", "MR"])
    assert len(read) == len(set(read)) == 7 and len(walked) == 1


def test_a_series_tells_what_a_run_must_know(make_series):
    opened = open_study(mr_and_ct(make_series))
    row = opened.choose("ct head")
    assert (row.modality, row.description, row.patient, row.frame_of_reference) == ("CT", "CT head", "P7", "1.2.3.3")
    assert row.problem == "" and row.warnings == [] and row.shape == (4, 6, 3)
    assert opened.path_of(row) == f"{opened.path}::1.2.8"
    assert [item.modality for item in opened.pair().series] == ["MR", "CT"]


def test_the_digest_follows_the_contents_not_the_names(make_series):
    folder = mr_and_ct(make_series)
    before = open_study(folder).choose("CT").digest
    for file in sorted(folder.glob("1.2.8*")):
        file.rename(folder / f"renamed_{file.name}")
    assert open_study(folder).choose("CT").digest == before
    file = next(folder.glob("renamed*"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    assert open_study(folder).choose("CT").digest != before


def test_a_study_is_opened_without_torch():
    code = "import sys, clinicalfmamba_nets.io.dicom.study; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_file_is_the_problem_of_the_series_beside_it_alone(make_series):
    folder = mr_and_ct(make_series)
    (folder / "other").mkdir()
    for file in folder.glob("1.2.8*"):
        file.rename(folder / "other" / file.name)
    file = next((folder / "other").iterdir())
    file.write_bytes(file.read_bytes()[:140])
    opened = open_study(folder)
    assert opened.choose("MR").problem == "" and opened.warnings == [f"cannot be read, left out: {file.name}"]
    with pytest.raises(FusionInputError, match="CT 3.*truncated"):
        opened.pair()
