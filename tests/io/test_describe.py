"""What `info` tells of an image."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clinicalfmamba_nets.io import write_image
from clinicalfmamba_nets.io.describe import describe_image, image_text

AFFINE = np.array([[0, -2.0, 0, 10], [0, 0, -1.5, 20], [3, 0, 0, -5], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_volume(tmp_path, name):
    voxels = np.arange(60).reshape(3, 4, 5)
    write_image(tmp_path / name, voxels, affine=AFFINE, dtype="int16")
    told = describe_image(tmp_path / name)
    assert told["size"] == [3, 4, 5] and told["voxel_mm"] == [3, 2, 1.5] and told["axes"] == "SLP"
    assert told["values"] == [0, 59] and np.allclose(told["affine"], AFFINE) and told["type"] == "int16"
    text = image_text(told)
    assert "3 x 4 x 5, int16" in text and "3 x 2 x 1.5 mm, axes run to SLP" in text and "patient's space" in text
    json.dumps(told)


def test_a_place_that_is_not_known_and_a_picture(tmp_path):
    write_image(tmp_path / "a.nrrd", np.arange(8.0).reshape(2, 2, 2), coordinates="none")
    text = image_text(describe_image(tmp_path / "a.nrrd"))
    assert "place    not known" in text and "warning: header without orientation" in text and "axes" not in text
    write_image(tmp_path / "a.png", np.full((4, 6, 3), [9.0, 200, 3]))
    told = describe_image(tmp_path / "a.png")
    assert told["size"] == [4, 6] and told["color"] and told["affine"] is None
    assert "png, 4 x 6, uint8, in color" in image_text(told)


def test_by_the_command_line(tmp_path, run_cli):
    write_image(tmp_path / "a.nii", np.arange(60.0).reshape(3, 4, 5), affine=AFFINE)
    assert "3 x 4 x 5" in run_cli("info", tmp_path / "a.nii").out
    assert json.loads(run_cli("info", tmp_path / "a.nii", "--json").out)["axes"] == "SLP"
    (tmp_path / "b.nii").write_bytes(b"no image")
    outcome = run_cli("info", tmp_path / "b.nii")
    assert outcome.code == 1 and "expected a NIfTI image" in outcome.cause
