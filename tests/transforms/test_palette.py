"""Palettes: the published colors, the network's luma, results in color beside or instead of the grey one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.functional.colour import rgb_to_ycbcr
from clinicalfmamba_nets.io import read_image
from clinicalfmamba_nets.io.dicom.colour import palette_table
from clinicalfmamba_nets.transforms import ColorByPaletted, SaveFused
from clinicalfmamba_nets.transforms.palette import color_by_palette, palette_name
from clinicalfmamba_nets.transforms.restore import COVERED_KEY, SCALE_KEY

SHAPE = (10, 12, 6)


def entry(shape=SHAPE, **meta) -> dict:
    pair = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    meta = {SCALE_KEY: torch.tensor([[0.0, 900.0], [0.0, 1.0]], dtype=torch.float64), **meta}
    image = MetaTensor(pair, affine=torch.diag(torch.tensor([1.0, 1, 3, 1], dtype=torch.float64)), meta=meta)
    return {"image": image, "pred": MetaTensor(pair[:1] * 0.5 + 0.25) * 900}


@pytest.mark.parametrize("name", ["hot_iron", "pet", "hot_metal_blue"])
def test_colors_that_exist_keep_the_luma_and_the_palette_s_differences(name):
    table, second = palette_table(name), torch.linspace(0, 1, 256)
    luma = rgb_to_ycbcr(torch.from_numpy(table.copy()).float().T[None] / 255)[0, 0]
    assert np.abs(color_by_palette(luma, second, table).T.numpy().astype(int) - table).max() <= 1
    grey = color_by_palette(torch.full((1,), 0.6), torch.zeros(1), table)
    assert np.ptp(grey.numpy().astype(int)) <= (1 if table[0].max() == 0 else 255)


def test_names():
    assert [palette_name(name) for name in ("HOT", "hot iron", "grey", "None")] == ["hot_iron"] * 2 + ["grey"] * 2
    with pytest.raises(FusionInputError, match="palette: expected one of grey, hot_iron"):
        palette_name("rainbow")
    with pytest.raises(FusionInputError, match="color: expected one of beside, instead"):
        ColorByPaletted(palette="pet", result="both")


def test_beside_and_instead():
    plain = entry()
    assert set(ColorByPaletted()(plain)) == {"image", "pred"}
    beside = ColorByPaletted(palette="hot")(plain)
    assert torch.equal(beside["pred"], plain["pred"]) and beside["pred_color"].shape == (3, *SHAPE)
    instead = ColorByPaletted(palette="hot", result="instead")(entry())
    assert torch.equal(instead["pred"].as_tensor(), beside["pred_color"].as_tensor()) and "pred_color" not in instead
    assert "pred_color" not in ColorByPaletted(palette="grey")(entry())


def test_a_picture_is_replaced_and_color_is_kept():
    picture = ColorByPaletted(palette="pet")(entry((10, 12), value_range=255.0))
    assert picture["pred"].shape == (3, 10, 12)
    colored = entry((10, 12)) | {"pred": MetaTensor(torch.rand(3, 10, 12))}
    kept = ColorByPaletted(palette="pet")(colored)
    assert torch.equal(kept["pred"], colored["pred"]) and "its own colors" in kept["image"].meta["notes"]


def test_what_is_not_covered_stays_grey():
    covered = torch.ones(SHAPE, dtype=torch.bool)
    covered[..., 3:] = False
    made = ColorByPaletted(palette="hot")(entry(**{COVERED_KEY: covered}))["pred_color"].as_tensor().int()
    assert (made[..., 3:].amax(0) - made[..., 3:].amin(0)).max() <= 1
    assert (made[..., :3].amax(0) - made[..., :3].amin(0)).max() > 100


def test_volumes_in_color_are_written_as_rgb24(tmp_path):
    made = ColorByPaletted(palette="hot_metal_blue")(entry())
    path = SaveFused(tmp_path, "fused_color", ".nii.gz")(made["pred_color"], made["image"].meta, "7")
    read, meta = read_image(path)
    assert path.name == "7_fused_color.nii.gz" and meta["color"]
    assert np.array_equal(np.moveaxis(read, -1, 0), made["pred_color"].numpy())
    assert np.allclose(meta["affine"], np.diag([1, 1, 3, 1])) and len(list(tmp_path.iterdir())) == 1
