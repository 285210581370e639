"""The front end: each kind of image in its own range, and what must not change it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.transforms import (
    LoadImagePaird,
    RandWindowIntensityPaird,
    RestoreIntensityd,
    ScaleIntensityPair,
    WindowIntensityPair,
    WindowIntensityPaird,
)
from clinicalfmamba_nets.transforms.doubts import is_ct_in_hu
from clinicalfmamba_nets.transforms.sources import PairSources

SIDE = 40


def head() -> tuple[torch.Tensor, torch.Tensor]:
    """MR of 0..900 and CT in HU of one head (H, W): air, bone 1000, brain 35, a bleeding of 70."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    radius = (x**2 + y**2).sqrt()
    texture = 3 * torch.sin(31 * x) * torch.cos(29 * y)
    mr, ct = torch.zeros_like(radius), torch.full_like(radius, -1000.0)
    for limit, signal, hu in ((0.95, 880, 20), (0.85, 60, 1000), (0.75, 500, 35), (0.2, 505, 70)):
        inside = radius < limit
        mr[inside], ct[inside] = (signal + 2 * texture)[inside], (hu + texture)[inside]
    return mr.round(), ct.round()


def pair(mr: torch.Tensor, other: torch.Tensor, **second) -> MetaTensor:
    facts = [{"name": "mr", "modality": "MR", "dtype": "int16"}, {"name": "b", "modality": "CT", "dtype": "int16"}]
    return MetaTensor(torch.stack([mr, other]), meta={"sources": [facts[0], {**facts[1], **second}]})


def test_a_pet_whose_few_hottest_voxels_leave_the_brain_dark_is_told():
    mr, _ = head()
    for glands, is_told in ((15, True), (2, False)):
        pet = 4000 * (mr > 0)
        pet[-SIDE // 5 :, SIDE // 2 - 4 : SIDE // 2 + 4] *= glands
        image = pair(mr, pet.float(), modality="PT", dtype="float32")
        told = WindowIntensityPair(task="pet_mri")(image).meta.get("warnings", "")
        assert ("of the head lies below 7 % of the range that its greatest uptake asks for" in told) is is_told


def test_an_8_bit_mr_that_a_spike_leaves_dark_is_told():
    mr, ct = head()
    for spike, told in ((255, "99.5 % of what it shows lies below 8 % of its greatest value: dark beside"), (20, "")):
        dark = (mr / 900 * 20).round()
        dark[3, 20] = spike
        image = pair(dark, ct)
        image.meta["sources"][0]["dtype"] = "uint8"
        assert told in WindowIntensityPair()(image).meta["warnings"]
        assert bool(told) == bool(WindowIntensityPair()(image).meta["warnings"])


@pytest.mark.parametrize("floor", [-600, -250, -100])
def test_a_ct_without_a_name_whose_air_was_clipped_keeps_its_brain_window(floor):
    """A CT of -200 to 1000 in ct_mri, whose file did not say ct, went to the network from -200 to 536 HU."""
    mr, ct = head()
    image = pair(mr, ct.clamp(min=floor), name="second", modality="")
    result = WindowIntensityPair(task="ct_mri")(image)
    assert result.meta["intensity_windows"].splitlines()[1].startswith("CT: window brain 40/80 HU")
    assert torch.equal(result[1], WindowIntensityPair(task="ct_mri")(pair(mr, ct))[1])


def test_an_mr_whose_background_is_below_0_is_no_clipped_ct():
    mr, _ = head()
    mr = mr + (mr > 300) * (mr < 800) * 120 * torch.sin(torch.linspace(0, 40, SIDE))  # gray and white matter
    for moved in (mr - 200, mr - 500, (mr - 450).round()):
        assert not is_ct_in_hu(moved.flatten())


@pytest.mark.parametrize("unit", [1 / 15000, 3e-8])
def test_a_spike_does_not_hide_an_mr_of_small_numbers(unit):
    """Values in [0, 1] were taken for a picture: an MR of 0 to 3e-5 with one voxel of 4e-4 was black in the result."""
    mr, ct = head()
    mr[3, 20] = 15000
    image = pair(mr * unit, ct)
    for source in image.meta["sources"]:
        source["dtype"] = "float32"
    shown = WindowIntensityPair()(image)[0]
    assert 0.45 < float(shown[28, 20]) < 0.65
    alone = pair((mr * unit).clamp(max=900 * unit), ct)
    assert torch.allclose(WindowIntensityPair()(alone)[0][28], shown[28], atol=0.03)


def test_ct_is_windowed_and_mr_goes_to_a_percentile():
    scaled = WindowIntensityPair()(pair(*head()))
    assert scaled.meta["intensity_scale"][1].tolist() == [0, 80]
    low, high = scaled.meta["intensity_scale"][0].tolist()
    assert low == 0 and 870 < high < 890
    first, second = scaled.meta["intensity_windows"].splitlines()
    assert first.startswith("MR: 0 to 88") and second.startswith("CT: window brain 40/80 HU, 18 %")
    assert all(line in scaled.meta["notes"] for line in (first, second))


@pytest.mark.parametrize("window", ["brain", "head", "bone"])
def test_bone_is_brighter_than_soft_tissue(window):
    _, ct = head()
    scaled = WindowIntensityPair(window_b=window)(pair(*head()))[1]
    assert scaled[ct > 900].min() > scaled[ct < 100].max()


@pytest.mark.parametrize("window_b", ["auto", "head", "bone", "soft", "p1/p99"])
@pytest.mark.parametrize("spoil", ["filling", "padding", "hot"])
def test_odd_values_change_no_other_voxel(window_b, spoil):
    mr, ct = head()
    before = WindowIntensityPair(window_b=window_b)(pair(mr, ct)).as_tensor()
    spoiled = [mr.clone(), ct.clone()]
    if spoil == "hot":
        spoiled[0][3, 3] = 32767
    else:
        spoiled[1][:3, :3] = {"filling": 3071, "padding": -3024}[spoil]
    after = WindowIntensityPair(window_b=window_b)(pair(*spoiled)).as_tensor()
    change = (after - before).abs()
    change[:, :4, :4] = 0
    assert change.max() < 0.01


def test_ct_without_header_is_known_by_its_values_and_the_task():
    mr, ct = head()
    plain = MetaTensor(torch.stack([mr, ct]))
    assert WindowIntensityPair(task="ct_mri")(plain).meta["intensity_scale"][1].tolist() == [0, 80]
    assert WindowIntensityPair(task="t2_flair")(plain).meta["intensity_scale"][1].tolist() != [0, 80]
    stored = MetaTensor(torch.stack([mr, ct + 1024]))  # no rescale was applied: no HU
    meta = WindowIntensityPair(task="ct_mri")(stored).meta
    assert meta["intensity_scale"][1][1] > 1000 and "are no HU: soft tissue is flat" in meta["warnings"]
    series = WindowIntensityPair()(pair(mr, ct + 1024, units="HU")).meta["warnings"]  # a CT series without a rescale
    assert "are no HU: soft tissue is flat without its window; subtract the offset of air" in series
    assert WindowIntensityPair()(pair(mr, ct, units="HU")).meta["warnings"] == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ct: ct, ""),
        (lambda ct: ct.clamp(0, 80), ""),
        (lambda ct: ct.clamp(-100, 200), ""),
        (lambda ct: ct.clamp(0, 80) / 80, ""),
        (lambda ct: 10 * ct, "values of -10000 to 10030 are no HU: soft tissue is flat"),
        (lambda ct: ct / 1000, "are no HU: soft tissue is flat without its window; multiply them by 1000"),
        (lambda ct: ct.clamp(0, 80) / 40 - 1, ""),
        (lambda ct: ct % 65536, "and none in the middle: negative values were read without their sign"),
        (lambda ct: ct.clamp(-25, 300) % 65536, "and none in the middle: negative values were read without their sign"),
        (lambda ct: torch.where(ct > 500, 65535.0, ct.clamp(0, 80) * 100), ""),
        (lambda ct: (ct + 1000) / 2003, "values of 0 to 1 are no HU: soft tissue is flat without its window; name"),
        (lambda ct: (ct - ct.mean()) / ct.std(), "are no HU: soft tissue is flat without its window; name a window in"),
        (lambda ct: (ct.clamp(0, 80) - 20) / 25, ""),
        (lambda ct: (ct + 1000) * 1.9e-4, "values of 0 to 0.381 are no HU: soft tissue is flat"),
        (
            lambda ct: torch.where(ct > -900, ct + 150, ct),
            "100 % of the head lies above the window",
        ),
        (lambda ct: torch.where(ct < 500, ct - 150, ct), "% of the head lies below the window"),
    ],
)
def test_a_ct_whose_range_hides_tissue_is_a_warning(change, told):
    mr, ct = head()
    sources = PairSources.of({"modality": "MR"}, {"dtype": "float32"})
    image = MetaTensor(torch.stack([mr, change(ct)]), meta={"sources": sources})
    warnings = WindowIntensityPair(task="ct_mri")(image).meta.get("warnings", "")
    assert told in warnings and bool(warnings) == bool(told)


@pytest.mark.parametrize(
    ("change", "window", "modality", "told"),
    [
        (
            lambda ct: ct.clamp(0, 80) * 255 / 80,
            "brain",
            "CT",
            "81 % of the head lies above the window that was asked",
        ),
        (lambda ct: ct.clamp(0, 80) * 255 / 80, "0-255", "CT", ""),
        (lambda ct: ct, "stroke", "CT", ""),
        (lambda ct: ct, "bone", "CT", ""),
        (
            lambda ct: ct,
            "header",
            "CT",
            "% of the head lies below the window that was asked for: its values are -1000 to",
        ),
        (lambda ct: ct.clamp(0, 80) * 100, "suv 0-0.2", "PT", "its values are 0 to 1.6; name a window in them"),
        (lambda ct: ct.clamp(0, 80) * 100, "suv 1.2-1.6", "PT", ""),
    ],
)
def test_a_window_that_turns_the_head_white_or_black_is_a_warning(change, window, modality, told):
    image = pair(head()[0], change(head()[1]), modality=modality, suv_factor=2e-4, windows=[(400.0, 300.0, "BONE")])
    warnings = WindowIntensityPair(window_b=window)(image).meta.get("warnings", "")
    assert told in warnings and bool(warnings) == bool(told)


@pytest.mark.parametrize("modality", ["CT", "PT", "NM", ""])
@pytest.mark.parametrize("slices", [1, 5])
def test_an_inverted_picture_is_a_warning(modality, slices):
    mr, ct = head()
    picture = ct.clamp(0, 80) * 255 / 80
    for which, upright in ((picture, True), (255 - picture, False)):
        planes = torch.stack([mr, which])
        sources = PairSources.of({"modality": "MR"}, {"modality": modality, "dtype": "uint8"})
        planes = planes if slices == 1 else planes[..., None].expand(-1, -1, -1, slices)
        image = MetaTensor(planes, meta={"sources": sources})
        warnings = WindowIntensityPair()(image).meta.get("warnings", "")
        assert bool(warnings) != upright and ("image B: white around the head" in warnings) != upright


@pytest.mark.parametrize("odd", [-32768, 32767])
def test_a_single_odd_voxel_neither_makes_nor_hides_an_inverted_picture(odd):
    mr, ct = head()
    mr[5, 5] = odd
    assert not WindowIntensityPair()(pair(mr, ct)).meta.get("warnings")
    mr = 1000 - head()[0]
    mr[5, 5] = odd
    assert "image A: white around the head" in WindowIntensityPair()(pair(mr, ct)).meta["warnings"]


@pytest.mark.parametrize(("modality", "is_told"), [("", True), ("MR", False)])
def test_hounsfield_units_that_are_not_taken_for_a_ct_are_told(modality, is_told):
    mr, ct = head()
    sources = PairSources.of({"dtype": "int16"}, {"dtype": "int16", "modality": modality})
    image = MetaTensor(torch.stack([mr, ct]), meta={"sources": sources})
    told = WindowIntensityPair(task="t2_flair")(image).meta.get("warnings", "")
    assert ("values of -1000 to 1003 look like a CT in HU" in told) == is_told
    ct[:4] = -3024  # outside the field of view
    padded = MetaTensor(torch.stack([mr, ct]), meta={"sources": sources})
    told = WindowIntensityPair(task="t2_flair")(padded).meta.get("warnings", "")
    assert ("values of -3024 to 1003 look like a CT in HU" in told) == is_told
    negative = MetaTensor(torch.stack([mr, (mr - 400) / 200]), meta={"sources": sources})  # normalized by its deviation
    assert not WindowIntensityPair(task="t2_flair")(negative).meta.get("warnings", "")


@pytest.mark.parametrize("scale", [0.0, 0.7, 1.0, 2.0])
def test_a_ct_stored_with_its_offset_is_told_and_an_mr_of_such_values_is_not(scale):
    mr, ct = head()
    other = mr * scale * 1064 / float(mr[mr > 0.05 * mr.max()].median()) if scale else ct + 1024
    other += torch.randn(mr.shape, generator=torch.Generator().manual_seed(0)) * 0.04 * 1064 * (mr > 0) * scale
    sources = PairSources.of({"dtype": "int16"}, {"dtype": "uint16"})
    image = MetaTensor(torch.stack([mr, other.clamp_min(0).round()]), meta={"sources": sources})
    told = WindowIntensityPair(task="t2_flair")(image).meta.get("warnings", "")
    assert ("look like a CT in HU plus an offset, but are taken for no CT" in told) == (not scale)


def test_a_map_of_a_ct_that_is_no_hu_has_no_brain_window():
    mr, ct = head()
    for units, is_window in (("HU", True), ("", True), ("MGML", False)):
        sources = PairSources.of({"modality": "MR"}, {"modality": "CT", "units": units})
        meta = WindowIntensityPair()(MetaTensor(torch.stack([mr, ct]), meta={"sources": sources})).meta
        assert (meta["intensity_scale"][1].tolist() == [0, 80]) is is_window


@pytest.mark.parametrize("levels", [(0, 255), (10, 240), (0, 7)])
def test_8_bit_pictures_go_from_least_to_greatest_value_as_ever(levels):
    picture = torch.randint(levels[0], levels[1] + 1, (2, 20, 20)).float()
    for dtype in ("uint8", ""):
        image = MetaTensor(picture if dtype else picture / 255, meta={"dtype": dtype})
        assert torch.equal(WindowIntensityPair(task="ct_mri")(image), ScaleIntensityPair()(image))


def test_pet_is_told_in_suv_and_without_it_the_reason():
    mr, _ = head()
    uptake = torch.where(mr > 0, mr * 20, 0.0)
    facts = {"modality": "PT", "units": "Bq/ml", "suv_factor": 2.5e-4}
    scaled = WindowIntensityPair(window_b="suv 0-6")(pair(mr, uptake, **facts))
    assert scaled.meta["intensity_scale"][1].tolist() == pytest.approx([0, 24000])
    assert "0 to 6 SUVbw" in scaled.meta["intensity_windows"]
    bare = pair(mr, uptake, **{**facts, "suv_factor": None, "suv_reason": "PatientWeight (0010,1030) is missing"})
    told = WindowIntensityPair()(bare).meta
    assert "PatientWeight" in told["notes"] and "Bq/ml" in told["intensity_windows"]
    assert "PatientWeight" in WindowIntensityPair(window_b="suv 0-6")(bare).meta["warnings"]


@pytest.mark.parametrize("window", ["suv", "suv 0-6"])
def test_suv_of_what_is_no_pet_is_a_warning(window):
    scaled = WindowIntensityPair(window_a=window, window_b=window)(pair(*head()))
    assert scaled.meta["warnings"].splitlines() == [
        "image A: no SUV: MR is no PET, its own values instead",
        "image B: no SUV: CT is no PET, its own values instead",
    ]
    assert scaled.meta["intensity_scale"][1].tolist() == [0, 80]


def test_the_header_s_window_is_used_when_asked_and_else_told():
    windows = [[300, 2000, "BONE"], [50, 400, "SOFT"]]
    scaled = WindowIntensityPair(window_b="header")(pair(*head(), windows=windows))
    assert scaled.meta["intensity_scale"][1].tolist() == [-700, 1300] and "50/400" in scaled.meta["notes"]
    assert "300/2000, 50/400, not used" in WindowIntensityPair()(pair(*head(), windows=windows)).meta["notes"]
    with pytest.raises(FusionInputError, match="b: expected a window in its header"):
        WindowIntensityPair(window_b="header")(pair(*head()))


@pytest.mark.parametrize("window", ["brian", 0, False, []])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(FusionInputError, match=f"window: expected auto, brain.*found {re.escape(repr(window))}"):
        WindowIntensityPair(window_a=window)(pair(*head()))


def test_nan_is_background_and_counts_as_not_covered():
    mr, ct = head()
    ct[:10] = float("nan")
    entry = WindowIntensityPaird()({"image": pair(mr, ct)})
    scaled = entry["image"]
    assert (scaled[1, :10] == 0).all() and "400 voxels of NaN" in scaled.meta["notes"]
    entry["pred"] = MetaTensor(torch.full((1, SIDE, SIDE), 0.5))
    fused = RestoreIntensityd()(entry)["pred"]
    assert torch.equal(fused[0, :10].as_tensor(), mr[:10]) and (fused[0, 10:] > 400).all()


@pytest.mark.parametrize("window_b", ["auto", "head", "minmax"])
def test_it_is_undone(window_b):
    image = pair(*head())
    window = WindowIntensityPaird(window_b=window_b, window_a="minmax")
    back = window.inverse(window({"image": image}))["image"].as_tensor()
    least, most = (0, 80) if window_b == "auto" else (-1e9, 1e9)
    assert torch.allclose(back[0], image[0].as_tensor(), atol=1e-3)
    assert torch.allclose(back[1], image[1].as_tensor().clamp(least, most), atol=1e-2)


def test_it_goes_through_batches():
    mr, ct = head()
    entries = [LoadImagePaird()({"image": (mr * scale).numpy(), "image2": ct.numpy()}) for scale in (1, 2)]
    batch = list_data_collate([WindowIntensityPaird(task="ct_mri", window_b="head")(entry) for entry in entries])
    batch["pred"] = batch["image"][:, :1]
    for item, scale in zip(decollate_batch(batch), (1, 2), strict=True):
        restored = RestoreIntensityd()(item)["pred"][0].as_tensor()
        assert torch.allclose(restored, (mr * scale).clamp(max=restored.max()), rtol=1e-5, atol=1e-2)
        assert item["image"].meta["intensity_windows"].splitlines()[1].startswith("CT: -1000 to 1500 HU")


def test_random_windows_differ_and_can_be_repeated():
    entry = {"image": pair(*head())}
    window = RandWindowIntensityPaird().set_random_state(seed=3)
    drawn = [window(entry)["image"] for _ in range(12)]
    widths = [float(one.meta["intensity_scale"][1].diff()) for one in drawn]
    assert len(set(widths)) > 6 and min(widths) < 120 and max(widths) > 1000
    assert all(one.min() >= 0 and one.max() <= 1 for one in drawn)
    _, ct = head()
    assert all(one[1][ct > 900].mean() > one[1][(ct < 100) & (ct > 0)].max() - 0.2 for one in drawn)
    again = RandWindowIntensityPaird().set_random_state(seed=3)(entry)["image"]
    assert torch.equal(again, drawn[0])
    never = RandWindowIntensityPaird(prob=0.0)(entry)["image"]
    assert torch.equal(never, WindowIntensityPaird()(entry)["image"])


def test_random_ranges_of_8_bit_pictures():
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32))).float()
    image = MetaTensor(picture, meta={"dtype": "uint8"})
    window = RandWindowIntensityPaird(task="ct_mri").set_random_state(seed=0)
    scales = torch.stack([window({"image": image})["image"].meta["intensity_scale"] for _ in range(40)])
    assert (scales[:, :, 0] < scales[:, :, 1]).all() and scales[:, :, 1].max() <= 255
    assert scales[:, 1, 1].min() > 140 and scales[:, 1, 0].max() < 30 and scales[:, 0, 1].min() > 235


def test_a_single_hot_voxel_is_kept_from_the_network_and_white_in_the_result():
    mr, ct = head()
    before = WindowIntensityPair()(pair(mr, ct)).as_tensor()
    mr[20, 20] = 32767
    entry = WindowIntensityPaird()({"image": pair(mr, ct)})
    change = (entry["image"].as_tensor() - before).abs()
    assert change[0, 20, 20] < 0.1 and change.max() < 0.1 and "1 single voxel of 32767" in entry["image"].meta["notes"]
    entry["pred"] = MetaTensor(torch.full((1, SIDE, SIDE), 0.5))
    fused = RestoreIntensityd()(entry)["pred"][0]
    assert fused[20, 20] == entry["image"].meta["intensity_scale"][0, 1] and fused[20, 21] < 500
    mr[20, 21] = 32000  # a vessel or a mark of several voxels stays
    assert "spikes" not in WindowIntensityPair()(pair(mr, ct)).meta


def regions(count: int, step: int = 1, size: int = 48) -> torch.Tensor:
    """A label map (size, size): `count` regions of 8 x 8 pixels in an order of their own on a ground of 0."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1)) + 1
    blocks = torch.zeros(size // 8 * (size // 8), dtype=torch.int64)
    blocks[: len(order[: len(blocks)])] = order[: len(blocks)]
    return (step * blocks).reshape(size // 8, size // 8).repeat_interleave(8, 0).repeat_interleave(8, 1).float()


def told_of(image: torch.Tensor, **facts) -> str:
    first = torch.arange(image.numel()).reshape(image.shape) % 97 * 9.0
    sources = PairSources.of({"modality": "MR", "dtype": "int16"}, {"dtype": "int16", **facts})
    return WindowIntensityPair()(MetaTensor(torch.stack([first, image]), meta={"sources": sources})).meta.get(
        "warnings", ""
    )


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (lambda: (regions(9) > 0).float(), "0, 1"),
        (lambda: 255 * (regions(9) > 4).float(), "0, 255"),
        (lambda: torch.tensor([0.0, 1, 2, 4])[(regions(36) % 4).long()], "0, 1, 2, 4"),
        (lambda: regions(11), "0, 1, 2 ... 11 (12 of them)"),
        (lambda: regions(36, 7, 80), "0, 7, 14 ... 252 (37 of them)"),
        (lambda: regions(3)[..., None].expand(-1, -1, 5).contiguous(), "0, 1, 2, 3"),
        (lambda: torch.eye(40), "0, 1"),
    ],
)
@pytest.mark.parametrize(
    "facts", [{}, {"modality": "MR"}, {"modality": "CT"}, {"dtype": "uint8"}, {"dtype": "float64"}]
)
def test_a_mask_and_labels_are_told(labels, values, facts):
    told = f"image B: only the values {values}: a mask or labels of regions, no intensities"
    assert told in told_of(labels(), **facts)


def slope(levels: int, size: int = 60) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return ((levels - 1) * (1 - x**2 - y**2).clamp(0)).round()


@pytest.mark.parametrize(
    "image",
    [
        lambda: (head()[1].clamp(0, 80) * 255 / 80).round(),  # a windowed picture
        lambda: torch.where(head()[1] > 500, 255.0, torch.where(head()[1] > 66, 20.0, 0.0)),  # a template of bone
        lambda: 500 * (regions(9) > 0).float(),  # an even ball
        lambda: torch.tensor([0.0, 60, 500, 700, 900])[(regions(36) % 5).long()],  # tissues of a phantom
        lambda: torch.tensor([0.0, 20, 90, 255])[(regions(36) % 4).long()],
        lambda: torch.poisson(torch.full((40, 40), 3.0), generator=torch.Generator().manual_seed(0)),  # low counts
        lambda: slope(12) * 20,
        lambda: slope(100),
        lambda: regions(9) / 10,
        lambda: (3000 * (slope(200, 90) / 200 - 0.7).clamp(0)).round().clamp(0, 255),  # white with soft edges
        lambda: head()[0].clamp(0, 900) // 8,
    ],
)
def test_grey_levels_tissues_and_counts_are_no_labels(image):
    assert "labels" not in told_of(image())
