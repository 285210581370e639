"""Side-by-side preview: what it shows and that it is written whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clinicalfmamba_nets.engine.pictures.pair import HEADER, MARGIN, preview_image, write_preview


def ramp(height=256, width=256):
    """A picture that grows from left to right in [0, 1]."""
    return np.tile(np.linspace(0, 1, width), (height, 1))


def panels(sheet):
    """The three pictures of a sheet as arrays."""
    width = (sheet.width - 4 * MARGIN) // 3
    height = sheet.height - HEADER - MARGIN
    lefts = [MARGIN + place * (width + MARGIN) for place in range(3)]
    return [np.asarray(sheet)[HEADER : HEADER + height, left : left + width] for left in lefts]


def test_panels_show_the_three_images_in_order():
    image, image2 = ramp(), ramp().T
    fused = np.maximum(image, image2)
    for shown, wanted in zip(panels(preview_image(image, image2, fused)), (image, image2, fused), strict=True):
        assert np.array_equal(shown[..., 0], np.round(wanted.astype(np.float32) * 255))


def test_every_range_is_stretched_to_the_full_scale():
    shown = panels(preview_image(ramp() * 3000 - 1000, ramp() * 65535, ramp()))
    assert all(panel.min() == 0 and panel.max() == 255 for panel in shown)


def test_color_is_kept():
    red = np.zeros((256, 256, 3))
    red[..., 0] = ramp()
    shown = panels(preview_image(ramp(), red, red))[2]
    assert shown[..., 0].max() == 255 and shown[..., 1:].max() == 0


@pytest.mark.parametrize("shape", [(32, 40), (33, 257), (1500, 1000)])
def test_small_and_large_images_get_a_readable_size(shape):
    sheet = preview_image(ramp(*shape), ramp(*shape), ramp(*shape))
    height, width = panels(sheet)[0].shape[:2]
    assert 256 <= max(height, width) <= 768
    assert abs(height / width - shape[0] / shape[1]) < 0.02


def test_constant_image_is_black_and_nan_does_not_spread():
    broken = ramp()
    broken[0, 0] = np.nan
    shown = panels(preview_image(np.full((256, 256), 7.0), broken, ramp()))
    assert shown[0].max() == 0 and np.array_equal(shown[1][1:], shown[2][1:])


def test_label_and_title_are_drawn():
    plain = preview_image(ramp(), ramp(), ramp(), ("", "", ""))
    labeled = preview_image(ramp(), ramp(), ramp(), ("MRI", "CT", "fused"))
    assert np.asarray(labeled)[:HEADER].max() > np.asarray(plain)[:HEADER].max()
    assert preview_image(ramp(), ramp(), ramp(), title="16011").height > labeled.height


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected \(H, W\) or \(H, W, 3\), found \(4, 5, 6, 7\)"):
        preview_image(np.zeros((4, 5, 6, 7)), ramp(), ramp())


def test_written_in_one_step(tmp_path, monkeypatch):
    path = write_preview(ramp(), ramp(), ramp(), tmp_path / "new" / "p.png", title="caf\udce9 \u8133")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
    assert path.stat().st_size < 300_000

    def full_disk(*args, **kwargs):
        raise OSError(28, "no space left")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_preview(ramp(), ramp(), ramp(), tmp_path / "new" / "q.png")
    assert [found.name for found in path.parent.iterdir()] == ["p.png"]
