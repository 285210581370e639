"""Outputs of the published network on computed weights, reproduced by the imported checkpoint."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.nets import from_official_state_dict
from clinicalfmamba_nets.ops import scan_backend, scan_order

TOLERANCE = 2e-5
# Of tokens as large as 5, before the decoder evens them out: 3.5e-5 is seen on processors with 256-bit vectors alone.
TOKEN_TOLERANCE = 5e-5


@pytest.fixture(params=[1, 2])
def threads(request):
    """The encoder rounds the same with any number of threads; the scans would raise a difference tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def _case(folder: Path, name: str) -> tuple[dict, torch.Tensor, dict]:
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    table = json.loads((folder / f"{name}.json").read_text())
    weights = {k: torch.from_numpy(v) for k, v in fill.state_dict(table["keys"], table["salt"]).items()}
    shape = (1, 1, *table["size"])
    image = np.concatenate([fill.image(key, shape, table["salt"]) for key in "xy"], axis=1)
    return weights, torch.from_numpy(image), dict(np.load(folder / f"{name}.npz"))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    ("name", "dims", "scan", "key"),
    [
        ("official_2d_128", 2, None, "out"),
        ("official_3d_32", 3, "official", "out"),
        ("official_3d_32", 3, "official_restored", "out_restored"),
    ],
)
def test_published_output_is_reproduced(shared_golden, name, dims, scan, key, backend) -> None:
    weights, image, expected = _case(shared_golden, name)
    net = from_official_state_dict(weights, dims, scan)
    inner = {}
    net.cross.register_forward_hook(lambda module, args, output: inner.update(cross=output))
    with torch.inference_mode(), scan_backend(backend):
        fused = net(image)
    assert np.abs(fused.numpy() - expected[key]).max() < TOLERANCE
    if key == "out":  # the stored tokens of the 3D case run along h, w, z of a (Z, H, W) volume
        tokens = inner["cross"][0]
        if dims == 3:
            tokens = tokens[:, scan_order([4, 4, 4], "120", torch.device("cpu"))]
        assert np.abs(tokens.numpy() - expected["x_fuse"]).max() < TOKEN_TOLERANCE


def test_unknown_and_missing_tensors_are_named(shared_golden) -> None:
    weights, _, _ = _case(shared_golden, "official_2d_128")
    with pytest.raises(ValueError, match="unknown tensor 'extra.weight'"):
        from_official_state_dict({**weights, "extra.weight": torch.zeros(1)}, 2)
    missing = {k: v for k, v in weights.items() if k != "mambaenc.x_mamba_layers.2.block.D_b"}
    with pytest.raises(ValueError, match="expected tensor 'mambaenc.x_mamba_layers.2.block.D_b', found none"):
        from_official_state_dict(missing, 2)
    wrong = {**weights, "mambaenc.conv_in.weight": torch.zeros(32, 1, 5, 5)}
    with pytest.raises(ValueError, match="expected shape .* for 'conv_in.weight'"):
        from_official_state_dict(wrong, 2)
