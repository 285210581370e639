"""`clinicalfmamba_nets.fuse` on arrays, tensors and paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clinicalfmamba_nets
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning


@pytest.fixture(autouse=True)
def bundles(toy_bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use random weights."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))
    return toy_bundles


def pair(color: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two 8-bit images of 40 x 48 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (5, 40, 48)).astype(np.uint8)
    return values[0], np.moveaxis(values[2:], 0, -1) if color else values[1]


def test_grey_arrays():
    fused = clinicalfmamba_nets.fuse(*pair())
    assert fused.shape == (40, 48) and fused.dtype == np.float32
    assert pair()[0].min() <= fused.min() and fused.max() <= pair()[0].max()
    assert fused.max() > 1


def test_result_is_in_the_range_of_the_first_image():
    image, image2 = pair()
    fused = clinicalfmamba_nets.fuse(image.astype(np.float32) * 10 - 1000, image2 / 255, window_a="minmax")
    assert np.allclose(fused, clinicalfmamba_nets.fuse(image, image2) * 10 - 1000, atol=0.02)


def test_color_array_gives_a_color_image():
    fused = clinicalfmamba_nets.fuse(*pair(color=True), task="spect_mri")
    assert fused.shape == (40, 48, 3) and fused.min() >= 0 and fused.max() <= 255


def test_arrays_tensors_and_paths_agree(tmp_path):
    image, image2 = pair()
    for name, array in (("a", image), ("b", image2)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    expected = clinicalfmamba_nets.fuse(image, image2)
    assert np.array_equal(clinicalfmamba_nets.fuse(torch.from_numpy(image), torch.from_numpy(image2)), expected)
    assert np.array_equal(clinicalfmamba_nets.fuse(tmp_path / "a.png", str(tmp_path / "b.png")), expected)
    assert np.array_equal(clinicalfmamba_nets.fuse(image, image2, device="cpu"), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_tasks_have_their_own_weights():
    image, image2 = pair()
    first, second = (clinicalfmamba_nets.fuse(image, image2, task=task) for task in ("ct_mri", "pet_mri"))
    assert not np.allclose(first, second, atol=0.005)


def test_gradients_and_inference_mode_are_left_alone():
    clinicalfmamba_nets.fuse(*pair())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_b": np.eye(40, 47)}, "47"),
        ({"image_b": np.full((40, 48), np.nan)}, "finite"),
        ({"image_b": np.full((40, 48), 3.0)}, "contrast"),
        ({"image_b": "nowhere.png"}, "nowhere.png: expected"),
        ({"task": "ct_mir"}, "task: expected one of ct_mri, .*, found 'ct_mir'"),
        ({"device": "abacus"}, "device 'abacus': expected a device of this machine"),
    ],
)
def test_bad_arguments_are_told_in_one_line(change, words):
    image, image2 = pair()
    with pytest.raises(FusionInputError, match=words) as caught:
        clinicalfmamba_nets.fuse(**{"image_a": image, "image_b": image2, **change})
    assert "\n" not in str(caught.value)


def test_what_the_loader_tells_comes_as_warnings(monkeypatch):
    from clinicalfmamba_nets.transforms import sources

    read = sources.from_array

    def told(data, name):
        source = read(data, name)
        source.warnings.append("something is missing")
        return source

    monkeypatch.setattr("clinicalfmamba_nets.transforms.load.from_array", told)
    with pytest.warns(FusionWarning, match="image2: something is missing"):
        clinicalfmamba_nets.fuse(*pair())


@pytest.mark.parametrize("name", ["window_a", "window_b", "allow_partial"])
def test_a_setting_is_never_run(tmp_path, name):
    """A configuration of MONAI runs what begins with $: a request to a server could run any program."""
    run = f"$open({str(tmp_path / 'ran')!r}, 'w').close()"
    with pytest.raises(FusionInputError, match=name):
        FusionPipeline("ct_mri", settings={name: run})
    with pytest.raises(FusionInputError):
        clinicalfmamba_nets.fuse(*pair(), **{name: run})
    assert not (tmp_path / "ran").exists()


def test_a_folder_may_be_named_like_an_expression(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in zip("ab", pair(), strict=True):
        Image.fromarray(array).save(f"{name}.png")
    FusionPipeline("ct_mri", output_dir="$open('ran', 'w')")({"image": "a.png", "image2": "b.png", "case": "c"})
    assert [path.name for path in Path("$open('ran', 'w')").iterdir()] == ["c_fused.png"] and not Path("ran").exists()
