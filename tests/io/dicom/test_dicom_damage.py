"""Damaged bytes in DICOM files: a volume or a refusal in one line, whatever is hit."""

from __future__ import annotations

import random

import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image

FILES = [
    "mr_j2k/IM-0001-0001-0001.dcm",
    "mr_rle/IM-0001-0001-0001.dcm",
    "pydicom_singles/MR_small_jpeg_ls_lossless.dcm",
    "pydicom_singles/MR_small_implicit.dcm",
    "pydicom_singles/emri_small.dcm",
    "dicomdir_mixed_mr/DICOMDIR",
]


@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes_end_in_a_volume_or_one_line(shared_data, tmp_path, capfd, name):
    whole = (shared_data / "dicom" / name).read_bytes()
    target = tmp_path / name.split("/")[-1]
    chance = random.Random(0)
    refused = 0
    for _ in range(25):
        data = bytearray(whole)
        reach = chance.choice([400, 2500, len(data)])
        for _ in range(chance.choice([1, 5, 20])):
            data[chance.randrange(132, min(reach, len(data)))] = chance.choice([0, 255, chance.randrange(256)])
        target.write_bytes(data if chance.random() < 0.8 else data[: chance.randrange(200, len(data))])
        try:
            assert read_image(target)[0].ndim in (3, 4)
        except FusionInputError as error:
            refused += 1
            assert "\n" not in str(error) and "expected" in str(error)
    assert refused > 3
    assert "Traceback" not in capfd.readouterr().err
