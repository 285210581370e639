"""Steps between the slices of a fused volume that neither source has."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.transforms.notes import split_notes
from clinicalfmamba_nets.transforms.steps import WarnOfStepsd, worst_step


def a_pair(shape: tuple[int, int, int] = (40, 36, 20)) -> MetaTensor:
    """Two even images of .7 and .4, the patient's left stored first, sagittal slices 2 mm apart."""
    pair = torch.full((2, *shape), 0.7)
    pair[1] = 0.4
    return MetaTensor(pair, affine=torch.tensor([[0, 0, 2.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))


def warnings_of(pair: MetaTensor, fused: torch.Tensor) -> list[str]:
    """What is told of a fused volume (X, Y, Z)."""
    before = fused.clone()
    told = WarnOfStepsd()({"image": pair, "pred": fused[None]})
    assert torch.equal(told["pred"][0], before)
    return split_notes(pair.meta.get("warnings"))


@pytest.mark.parametrize(
    ("axis", "words"),
    [(0, "coronal slices 12 and 13"), (1, "axial slices 12 and 13"), (2, "sagittal slices 12 and 13")],
)
def test_a_border_between_slices_is_told_with_its_place(axis, words):
    pair = a_pair()
    shape = [1, 1, 1]
    shape[axis] = -1
    fused = torch.where(torch.arange(pair.shape[1 + axis]).view(shape) < 12, pair[0], pair[1]).as_tensor()
    (told,) = warnings_of(pair, fused)
    assert words in told and "in 100 % of the head" in told
    pair = a_pair()
    pair.meta["coordinates"] = "none"
    assert f"between slices 12 and 13 of axis {axis + 1} the fused" in warnings_of(pair, fused)[0]


def test_a_border_in_a_part_of_the_slice_is_told_from_five_percent_on():
    for rows, count in ((1, 0), (3, 1)):  # 2.5 and 7.5 % of a slice of 40 rows
        pair = a_pair()
        pair[0, :rows] = 1.0
        fused = pair[0].as_tensor().clone()
        fused[:rows, :, 10:] = 0.7
        assert len(warnings_of(pair, fused)) == count


def test_steps_of_a_source_air_and_what_is_not_covered_are_not_told():
    pair = a_pair()
    pair[1, :, :, 10:] = 0.9  # bone begins
    assert not warnings_of(pair, pair[1].as_tensor())
    pair = a_pair() * 0.04
    assert not warnings_of(pair, torch.where(torch.arange(20) < 9, 0.9, 0.1).expand(40, 36, 20))
    pair = a_pair()
    pair.meta["covered"] = (torch.arange(20) < 10).expand(40, 36, 20)
    assert not warnings_of(pair, torch.where(torch.arange(20) < 10, 0.5, 0.7).expand(40, 36, 20))


def test_a_single_image_and_a_slab_of_one_slice_are_passed_over():
    image = MetaTensor(torch.rand(2, 30, 30))
    WarnOfStepsd()({"image": image, "pred": torch.rand(1, 30, 30)})
    assert "warnings" not in image.meta
    assert worst_step(torch.full((40, 36, 1), 0.5), a_pair((40, 36, 1)).as_tensor()).share == 0
