"""T2 and FLAIR are shown with brains of one brightness, unless somebody chooses a range."""

import pytest
import torch
from monai.data import MetaTensor

from clinicalfmamba_nets.transforms import RestoreIntensity, WindowIntensityPair


def _heads(t2: float = 400.0, flair: float = 600.0, spreads: tuple[float, float] = (20, 30), top: float = 1000.0):
    """Return two heads of 24 x 24 x 16 voxels in air, int16: a brain with its texture, and fluid as bright as `top`."""
    texture = torch.randn(2, 24, 24, 16, generator=torch.Generator().manual_seed(0))
    pair = torch.zeros(2, 24, 24, 16)
    for channel, (level, spread) in enumerate(zip((t2, flair), spreads, strict=True)):
        pair[channel, 4:20, 4:20, 2:14] = (level + spread * texture[channel, 4:20, 4:20, 2:14]).round()
        pair[channel, 10:14, 10:14, 4:12] = top
    return MetaTensor(pair, meta={"sources": [{"dtype": "int16", "name": "t2"}, {"dtype": "int16", "name": "flair"}]})


def _brains(image: MetaTensor) -> torch.Tensor:
    return image.as_tensor()[:, 5:9, 5:19, 3:13].flatten(1)


def _levels(image: MetaTensor) -> list[float]:
    return _brains(image).median(1).values.tolist()


def test_the_brighter_brain_is_brought_to_the_other_one():
    scaled = WindowIntensityPair(task="t2_flair")(_heads())
    assert _levels(scaled) == pytest.approx([0.4, 0.4], abs=0.01)
    limits = scaled.meta["intensity_scale"]
    assert limits[0].tolist() == [0, 1000] and limits[1].tolist() == pytest.approx([0, 1500], abs=40)
    told = scaled.meta["intensity_windows"].splitlines()
    assert "as bright as that of image A" in told[1] and "bright" not in told[0]


def test_whichever_image_has_the_brighter_one():
    scaled = WindowIntensityPair(task="t2_flair")(_heads(600, 400))
    assert scaled.meta["intensity_scale"][1].tolist() == [0, 1000]
    assert _levels(scaled) == pytest.approx([0.4, 0.4], abs=0.01)


def test_the_lower_end_rises_until_the_spreads_are_alike():
    scaled = WindowIntensityPair(task="t2_flair")(_heads(spreads=(30, 30)))
    low, high = scaled.meta["intensity_scale"][1].tolist()
    assert low == pytest.approx(200, abs=25) and high == pytest.approx(1200, abs=40)
    first, second = _brains(scaled).std(1).tolist()
    assert 0.85 < second / first < 1.25  # .67 by the upper end alone


def test_the_background_of_the_first_image_is_that_of_the_result():
    pair = _heads(600, 400, spreads=(20, 40))
    scaled = WindowIntensityPair(task="t2_flair")(pair)
    low, high = scaled.meta["intensity_scale"][0].tolist()
    assert low == 0 and high == pytest.approx(1500, abs=40)
    assert torch.equal(RestoreIntensity()(scaled.as_tensor()[:1], scaled.meta["intensity_scale"]) == 0, pair[:1] == 0)


@pytest.mark.parametrize("flair", [500.0, 800.0])
def test_little_of_the_brain_becomes_black_and_nothing_white(flair):
    pair = _heads(flair=flair, spreads=(60, 10))
    scaled = WindowIntensityPair(task="t2_flair")(pair).as_tensor()
    shown = (pair.as_tensor() > 0).all(0)
    assert float((scaled[1][shown] == 0).float().mean()) <= 0.05
    assert float((scaled[1] == 1).float().mean()) <= float((pair.as_tensor()[1] >= 1000).float().mean())


@pytest.mark.parametrize(
    "settings",
    [{}, {"task": "ct_mri"}, {"task": "t2_flair", "window_b": "0-1000"}, {"task": "t2_flair", "window_a": "minmax"}],
)
def test_other_tasks_and_ranges_that_were_asked_for_stay(settings):
    assert _levels(WindowIntensityPair(**settings)(_heads())) == pytest.approx([0.4, 0.6], abs=0.01)


def test_brains_that_are_nearly_alike_stay():
    scaled = WindowIntensityPair(task="t2_flair")(_heads(400, 430))
    assert scaled.meta["intensity_scale"].tolist() == [[0, 1000], [0, 1000]]


def test_pictures_of_8_bits_stay_as_somebody_has_windowed_them():
    pair = _heads(100, 150, (5, 5), 255)
    for source in pair.meta["sources"]:
        source["dtype"] = "uint8"
    assert _levels(WindowIntensityPair(task="t2_flair")(pair)) == pytest.approx([0.39, 0.59], abs=0.02)


def test_no_upper_end_lies_more_than_three_times_as_far():
    pair = _heads(150, 900, (20, 120))
    own, moved = (WindowIntensityPair(task=task)(pair).meta["intensity_scale"][1, 1] for task in (None, "t2_flair"))
    assert float(moved / own) == pytest.approx(3)


def test_what_the_second_image_does_not_cover_tells_nothing_of_its_brain():
    pair = _heads()
    pair.as_tensor()[1, :, :12] = 900.0
    covered = torch.ones(24, 24, 16, dtype=torch.bool)
    covered[:, :12] = False
    pair.meta["covered"] = covered
    scaled = WindowIntensityPair(task="t2_flair")(pair).as_tensor()
    assert scaled[:, 5:9, 14:19, 3:13].flatten(1).median(1).values.tolist() == pytest.approx([0.4, 0.4], abs=0.02)
