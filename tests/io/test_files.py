"""Names that no terminal can print, files that are whole or absent, and how a format is chosen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import (
    atomic_file,
    available_memory,
    case_name,
    image_extension,
    image_files,
    image_format,
    printable,
    read_image,
    write_image,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("16011.png", "16011"),
        ("/data/T2.NII.GZ", "T2"),
        ("..\\..\\evil.nii.gz", "evil"),
        ("../../etc/passwd", "passwd"),
        (b"scan_\xff\xfe.nii.gz", "scan_%ff%fe"),
        ("médecin_患者.nii.gz", "médecin_患者"),
        ("with space.nii.gz", "with space"),
        ("a\nb:c", "a_b_c"),
        (".png", "png"),
        ("..", "case"),
        ("", "case"),
        ("é" * 300, "é" * 81 + "~" + hashlib.sha256(("é" * 300).encode()).hexdigest()[:16]),
    ],
)
def test_case_names_are_plain_file_names(name, expected):
    found = case_name(name)
    assert found == expected and found not in (".", "..")
    assert not set(found) & set('/\\\0\n:*?"<>|')
    assert len(os.fsencode(found)) < 250


def test_every_name_can_be_printed():
    for name in (b"\xff\xfe\n\x1b[2J.png", "a\u202eb", "x\ud800".encode("utf-8", "surrogatepass")):
        text = printable(name)
        text.encode("utf-8")
        assert text.isprintable()


def test_odd_names_are_read_and_kept(shared_data, tmp_path):
    with tarfile.open(shared_data / "bad" / "odd_names.tar", errors="surrogateescape") as tar:
        tar.extraction_filter = lambda member, path: member  # the argument `filter` is new in 3.11.4
        tar.extractall(tmp_path)
    names = sorted(os.listdir(os.fsencode(tmp_path)))
    assert len(names) == 4
    for name in names:
        array, _ = read_image(os.path.join(os.fsencode(tmp_path), name))
        assert array.shape == (48, 48, 48)
        target = tmp_path / "out" / f"{case_name(name)}_fused.nii.gz"
        write_image(target, array, like=os.path.join(os.fsencode(tmp_path), name))
        json.dumps(printable(target)).encode("ascii")
    assert len(os.listdir(tmp_path / "out")) == 4 and len(os.listdir(tmp_path)) == 5


def test_a_failed_writing_leaves_nothing(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert os.listdir(target.parent) == []
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and os.listdir(target.parent) == ["a.txt"]


def test_a_killed_writing_leaves_the_old_file(tmp_path):
    code = (
        "import sys, time\nfrom clinicalfmamba_nets.io import atomic_file\n"
        "with atomic_file(sys.argv[1]) as partial:\n"
        "    partial.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "a.nii"
    target.write_text("old")
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert target.read_text() == "old"


def test_the_files_of_an_image(tmp_path):
    import nibabel

    nibabel.save(nibabel.Nifti1Pair(np.ones((4, 4, 4), np.int16), np.eye(4)), tmp_path / "a.img")
    assert (
        image_files(tmp_path / "a.hdr") == image_files(tmp_path / "a.img") == [tmp_path / "a.hdr", tmp_path / "a.img"]
    )
    (tmp_path / "b.raw").write_bytes(bytes(8))
    (tmp_path / "b.nhdr").write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: b.raw\n"
    )
    fields = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = b.raw\n"
    (tmp_path / "b.mhd").write_text(fields)
    for name in ("b.nhdr", "b.mhd"):
        assert image_files(tmp_path / name) == [tmp_path / name, tmp_path / "b.raw"]
    assert image_files(tmp_path / "c.png") == [tmp_path / "c.png"]


def test_formats_by_name_and_by_content(tmp_path):
    assert [image_extension(name) for name in ("a.NII.gz", "b.nii", "c.Png", "d.nrrd", "e.txt")] == [
        ".nii.gz",
        ".nii",
        ".png",
        ".nrrd",
        "",
    ]
    write_image(tmp_path / "a.png", np.eye(4) * 255)
    os.rename(tmp_path / "a.png", tmp_path / "picture")
    assert image_format(tmp_path / "picture") == "png" and read_image(tmp_path / "picture")[0].shape == (4, 4)
    (tmp_path / "a.bmp").write_bytes(b"BM56")
    with pytest.raises(FusionInputError, match="a.bmp: expected an image .*png.*; convert it"):
        read_image(tmp_path / "a.bmp")
    with pytest.raises(FusionInputError, match="expected two images, found one PNG image"):
        write_image(tmp_path / "a.png", np.eye(4))
        read_image(tmp_path / "a.png", two_channels=True)


def test_special_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    start = time.monotonic()
    with pytest.raises(FusionInputError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")
    assert time.monotonic() - start < 1


def test_available_memory_is_plausible():
    available = available_memory()
    assert available is None or 0 <= available < 2**50
