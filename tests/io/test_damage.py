"""Whatever happens to the bytes of a file: it is read, or refused in one line."""

from __future__ import annotations

import random

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image


def spoiled(content, chance):
    """Cut, change or insert bytes, more often near the start where the headers are."""
    content = bytearray(content)
    kind = chance.random()
    if kind < 0.25:
        return content[: chance.randrange(len(content))]
    if kind < 0.8:
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(min(len(content), chance.choice([64, 400, len(content)])))] = chance.randrange(256)
        return content
    place = chance.randrange(len(content))
    content[place:place] = chance.randbytes(chance.randint(1, 20))
    return content


@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.nii.gz", "a.nrrd"])
def test_damaged_bytes(tmp_path, name):
    chance = random.Random(name)
    voxels = np.random.default_rng(0).integers(0, 255, (12, 10) if name == "a.png" else (12, 10, 6))
    write_image(tmp_path / name, voxels, dtype="uint8")
    whole = (tmp_path / name).read_bytes()
    refused = 0
    for _ in range(150):
        (tmp_path / name).write_bytes(spoiled(whole, chance))
        try:
            array, _ = read_image(tmp_path / name)
            assert np.isfinite(array).all() and array.ndim in (2, 3)
        except FusionInputError as error:
            refused += 1
            assert name in str(error) and "\n" not in str(error)
    assert refused > 30
