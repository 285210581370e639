"""Weight maps: split off the output, whole where the second image ends, saved beside the result."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from clinicalfmamba_nets.transforms import SaveWeightsd, SplitWeightsd


def test_one_channel_stays_and_two_are_split():
    pred = torch.rand(1, 4, 5)
    assert SplitWeightsd("pred")({"pred": pred}).keys() == {"pred"}
    both = torch.rand(2, 4, 5)
    split = SplitWeightsd("pred")({"pred": both})
    assert torch.equal(split["pred"], both[:1]) and torch.equal(split["weights"], both[1:])


def test_the_first_image_is_all_where_the_second_ends():
    covered = torch.tensor([[True, False]])
    image = MetaTensor(torch.zeros(2, 1, 2), meta={"covered": covered})
    split = SplitWeightsd("pred")({"pred": torch.full((2, 1, 2), 0.25), "image": image})
    assert split["weights"].tolist() == [[[0.25, 1.0]]]


@pytest.mark.parametrize("sides", [(9, 9), (9, 9, 9)])
def test_a_share_outside_the_head_is_0_and_stays_inside(sides):
    image = torch.full((2, *sides), 0.02)  # noise around the head
    inside = (slice(2, 7),) * len(sides)
    image[0][inside], image[1][inside] = 0.5, 0.1
    image[(slice(None), *(4,) * len(sides))] = 0.0  # dark in both, within the head
    weights = torch.full((1, *sides), 0.75)
    split = SplitWeightsd("pred")({"pred": torch.cat([image[:1], weights]), "image": MetaTensor(image)})["weights"][0]
    assert (split[inside] == 0.75).all() and int((split > 0).sum()) == 5 ** len(sides)


def test_a_picture_is_saved_in_255_levels(tmp_path):
    weights = torch.tensor([[[0.0, 0.5, 1.0]]])
    SaveWeightsd(output_dir=tmp_path)({"weights": weights, "case": "seven"})
    assert np.asarray(Image.open(tmp_path / "seven_weights.png")).tolist() == [[0, 128, 255]]


def test_a_volume_is_saved_with_its_place(tmp_path):
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    weights = torch.rand(1, 3, 4, 5)
    image = MetaTensor(torch.zeros(2, 3, 4, 5), affine=affine, meta={"filename_or_obj": "x/head.nii.gz"})
    SaveWeightsd(output_dir=tmp_path)({"weights": weights, "image": image})
    saved = nib.load(tmp_path / "head_weights.nii.gz")
    assert saved.get_fdata() == pytest.approx(weights[0].numpy(), abs=1e-6)
    assert np.allclose(saved.affine, affine)


def test_nothing_is_written_without_a_map(tmp_path):
    SaveWeightsd(output_dir=tmp_path)({"pred": torch.zeros(1, 2, 2)})
    assert not list(tmp_path.iterdir())
