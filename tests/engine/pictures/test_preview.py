"""The preview of a result: directions, places, proportions, colors, the end of a source, words that keep apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image, ImageDraw

from clinicalfmamba_nets.engine.pictures.contact_sheet import contact_sheet, write_sheet_of_previews
from clinicalfmamba_nets.engine.pictures.page_case import page_case
from clinicalfmamba_nets.engine.pictures.planes import Grid, Plane, choose_planes, slice_numbers
from clinicalfmamba_nets.engine.pictures.preview import Shown, draw_preview, write_preview_of
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.transforms.restore import COVERED_KEY, FACTS_KEY, SCALE_KEY, WINDOW_KEY

LABELS = ("MRI", "CT")


def volume(shape=(60, 60, 20)) -> np.ndarray:
    """A block with a bright corner: right, anterior and superior."""
    found = np.zeros(shape, np.float32)
    found[10:50, 10:50, 2:18] = 0.4
    found[40:50, 40:50, 2:18] = 1.0
    return found


def sample(first=None, affine=None, modality="CT", covered=None, color=0, **meta) -> dict:
    first = volume() if first is None else first
    affine = np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine
    facts = [{"modality": "MR", "unit": ""}, {"modality": modality, "low": 0, "high": 7.5, "unit": "SUVbw"}]
    meta |= {SCALE_KEY: torch.tensor([[0.0, 800.0], [0.0, 80.0]]), FACTS_KEY: json.dumps(facts), "color": color}
    meta[WINDOW_KEY] = "MR: 0 to 800\nCT: window brain 40/80 HU, 3 % of the head above it"
    meta |= {} if covered is None else {COVERED_KEY: torch.from_numpy(covered)}
    image = MetaTensor(torch.from_numpy(np.stack([first, first])), affine=torch.tensor(affine), meta=meta)
    fused = first.copy()
    fused[10:20, 10:20] = 0.9
    return {"image": image, "pred": MetaTensor(torch.from_numpy(fused)[None] * 800)}


def axial(entry: dict, column: int) -> np.ndarray:
    shown = Shown(entry, LABELS)
    return shown.panels(Plane(2, 10))[column].astype(int)


def test_the_right_side_is_on_the_left_and_the_front_on_top():
    panel = axial(sample(), 0)[..., 0]
    assert panel[15, 15] == 255 and panel[45, 45] == 102
    assert Shown(sample(), LABELS).grid.letters(Plane(2, 10)) == ("R", "L", "A", "P")
    assert Shown(sample(), LABELS).grid.letters(Plane(0, 3)) == ("A", "P", "S", "I")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [(), (0,), (0, 1), (2,)])
def test_storage_changes_no_picture_and_no_place(order, flipped):
    affine, turned = np.diag([1.0, 1.0, 3.0, 1.0]), volume()
    for axis in flipped:
        turned = np.flip(turned, axis)
        affine[:, 3] += affine[:, axis] * (turned.shape[axis] - 1)
        affine[:, axis] *= -1
    turned, affine = turned.transpose(order).copy(), affine[:, [*order, 3]]
    entry = sample(turned, affine)
    assert np.array_equal(axial(entry, 0), axial(sample(), 0))
    grid = Shown(entry, LABELS).grid
    assert grid.position(Plane(2, 10)) == 30 and grid.position(Plane(0, 7)) == 7
    number, count = grid.number(Plane(2, 10))
    assert (number, count) == ((10 if 2 in flipped else 11), 20) and grid.plane_of(2, number) == Plane(2, 10)
    assert grid.caption(Plane(2, 10)) == f"axial, slice {number} of 20, S 30.0 mm"


@pytest.mark.parametrize("tilt", [8, 15, 30, 44])
def test_thick_slices_that_are_tilted_keep_their_sides(tilt):
    """Slices of 5 mm with pixels of 0.45 mm, tilted by 8 degrees: right was drawn on the left, the face below."""
    angle, affine = np.deg2rad(tilt), np.diag([-0.45, -0.45, 5.0, 1.0])
    affine[1:3, 1:3] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ affine[1:3, 1:3]
    turned = np.flip(volume(), (0, 1)).copy()
    affine[:3, 3] = -affine[:3, :3] @ [59, 59, 0]
    assert np.array_equal(axial(sample(turned, affine), 0), axial(sample(), 0))


def test_red_tells_what_became_brighter():
    difference = axial(sample(), 3)
    assert difference[45, 45].tolist() == [255, 0, 0] and difference[15, 15].max() == 0


@pytest.mark.parametrize("voxel", [(0.5, 1.0, 3.0), (1.0, 2.0, 2.0)])
def test_pictures_are_in_proportion(voxel):
    grid = Grid((60, 60, 20), np.diag([*voxel, 1.0]))
    width, height, scale = grid.size(Plane(2, 3), 300)
    assert width / height == pytest.approx(voxel[0] / voxel[1], abs=0.01) and width * scale == pytest.approx(
        60 * voxel[0], 0.02
    )


def test_slices_are_chosen_where_the_sources_hold_most():
    first, second = np.zeros((40, 40, 30)), np.zeros((40, 40, 30))
    first[5:35, 5:35, 18:29], second[10:30, 10:30, 20:27] = 0.5, 1.0
    planes = choose_planes((first, second), Grid((40, 40, 30), np.eye(4)))
    assert [plane.axis for plane in planes] == [2, 1, 0] and 20 <= planes[0].index < 27


def test_a_thin_stack_shows_slices_and_where_a_source_ends():
    grid = Grid((60, 60, 12), np.diag([1.0, 1.0, 3.0, 1.0]))
    pair = volume((60, 60, 12)), volume((60, 60, 12))
    assert [plane.axis for plane in choose_planes(pair, grid)] == [2, 2, 2]
    assert [plane.axis for plane in choose_planes(pair, grid, edge=True)] == [2, 2, 2, 1]
    assert [plane.index for plane in choose_planes(pair, grid, "3,7-8")] == [2, 6, 7]


@pytest.mark.parametrize("text", ["0", "13", "a", "3-", "", "1,,2"])
def test_slices_that_are_not_there_are_refused(text):
    with pytest.raises(FusionInputError, match="slices: expected numbers"):
        slice_numbers(text, 12)
    assert len(slice_numbers("all", 300)) <= 24 and slice_numbers("middle", 5) == [3]


def test_the_end_of_a_source_is_marked_and_its_copy_is_dark():
    covered = np.ones((60, 60, 20), bool)
    covered[..., 12:] = False
    entry = sample(covered=covered, warnings="CT covers 60 %: the rest shows the MRI alone")
    shown = Shown(entry, LABELS)
    assert shown.panels(Plane(1, 30))[1][:8].max() == 0 and shown.panels(Plane(1, 30))[0][:8].max() > 0
    told = np.asarray(draw_preview(entry, LABELS)).reshape(-1, 3)
    assert (told == (255, 176, 46)).all(axis=1).sum() > 300


def test_uptake_is_shown_in_color_with_a_bar():
    shown = Shown(sample(modality="PT"), ("MRI", "PET"))
    panels = shown.panels(Plane(2, 10))
    assert np.ptp(panels[1].astype(int), axis=-1).max() > 200 and np.ptp(panels[2].astype(int), axis=-1).max() > 100
    assert shown.columns()[1].bar[1:] == ("0", "7.5 SUVbw")
    assert shown.columns()[2].bar is None, "the lightness of the fused image is not uptake alone"
    assert Shown(sample(), LABELS).columns()[1].bar is None
    assert Shown(sample(modality="PT", palette="grey"), LABELS).columns()[1].bar is None


def test_a_name_of_two_lines_is_written_in_one():
    sheet = contact_sheet([("one\ntwo", [np.zeros((30, 40))])], ["fused"])
    assert np.array_equal(sheet, contact_sheet([("one\\ntwo", [np.zeros((30, 40))])], ["fused"]))


def test_words_keep_apart(monkeypatch):
    boxes, text = [], ImageDraw.ImageDraw.text

    def recorded(self, place, words, fill, font, anchor="la"):
        if words:
            boxes.append(self.textbbox(place, words, font, anchor))
        text(self, place, words, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", recorded)
    covered = np.ones((60, 60, 20), bool)
    covered[..., 8:] = False
    long = "a warning of very many words that does not fit into one line of the sheet " * 4
    entry = sample(covered=covered, modality="PT", warnings=f"{long}; {long}")
    sheet = draw_preview(entry, ("a long name of a series of images", "another one that is longer still"), "case " * 60)
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and top >= 0 and right <= sheet.width and bottom <= sheet.height
        for other in boxes[:number]:
            assert right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3]


@pytest.mark.parametrize(
    ("coordinates", "caption", "letters"),
    [
        ("patient", "axial, slice 11 of 20, S 30.0 mm", "RLAP"),
        ("directions", "axial, slice 11 of 20", "RLAP"),
        ("other", "slice 11 of 20", ""),
        ("none", "slice 11 of 20", ""),
    ],
)
def test_no_side_is_marked_where_none_is_known(coordinates, caption, letters):
    """A NIfTI with both codes 0 had R, L and mm by the affine that is made up for it, and an NRRD without a space."""
    entry = sample(coordinates=coordinates, sources=[{"kind": "nifti"}] * 2)
    shown = Shown(entry, LABELS)
    assert shown.grid.caption(Plane(2, 10)) == caption and "".join(shown.grid.letters(Plane(2, 10))) == letters
    told = page_case(entry, np.asarray(entry["image"]), {"labels": LABELS}).facts
    assert (told["sided"], told["placed"]) == (bool(letters), coordinates == "patient")
    draw_preview(entry, LABELS)


def test_pictures_without_a_place_tell_none(tmp_path):
    first = volume()[:, :, 10].copy()
    meta = {"sources": [{"kind": "png"}, {"kind": "png"}], "value_range": 255.0}
    entry = sample(first[..., None], np.eye(4), **meta)
    entry = {"image": entry["image"][..., 0], "pred": entry["pred"][..., 0]}
    entry["image"].affine = torch.eye(4, dtype=torch.float64)
    shown = Shown(entry, LABELS)
    assert shown.picture_file and len(shown.planes(None)) == 1
    assert np.array_equal(shown.panels(Plane(2, 0))[0][..., 0], np.rint(first * 255))
    path = write_preview_of(entry, LABELS, tmp_path / "new" / "p.png", "caf\udce9 \u8133")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB" and picture.width > 800


def test_many_previews_lie_on_one_sheet(tmp_path):
    for number, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        Image.new("RGB", (300, 100 + 50 * number), color).save(tmp_path / f"{number}.png")
    write_sheet_of_previews(sorted(tmp_path.iterdir()), tmp_path / "sheet.png", width=150)
    with Image.open(tmp_path / "sheet.png") as sheet:
        colors = {color for _, color in sheet.getcolors()}
        assert sheet.width > 300 and {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= colors
    write_sheet_of_previews([tmp_path / "0.png"] * 9, tmp_path / "few.png", width=150, most=2)
    with Image.open(tmp_path / "few.png") as sheet:
        assert sheet.height < 120
