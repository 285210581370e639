"""The network's scan steps against the public scan, direction by direction."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clinicalfmamba_nets.ops import (
    permuted_conv1d_silu,
    permuted_selective_scan,
    scan_backend,
    scan_order,
    scan_orders,
    selective_scan,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("path", ["01", "-01", "10", "-10"])
def test_2d_paths_visit_each_token_once_in_the_order_named(path: str) -> None:
    grid = torch.arange(12).view(3, 4)
    expected = (grid if path[-2:] == "01" else grid.t()).flatten()
    expected = expected.flip(0) if path[0] == "-" else expected
    assert scan_order([3, 4], path, CPU).tolist() == expected.tolist()


@pytest.mark.parametrize("path", ["012", "201", "-120", "021"])
def test_3d_paths_equal_permuted_grids(path: str) -> None:
    axes = [int(c) for c in path.removeprefix("-")]
    expected = torch.arange(2 * 3 * 5).view(2, 3, 5).permute(axes).flatten()
    expected = expected.flip(0) if path[0] == "-" else expected
    assert scan_order([2, 3, 5], path, CPU).tolist() == expected.tolist()


def _inputs(dtype: torch.dtype) -> dict:
    torch.manual_seed(0)
    streams, directions, batch, channels, states, rank = 2, 4, 2, 5, 4, 3
    order = scan_orders([3, 7], ["01", "-01", "10", "-10"], CPU)
    length = order.shape[1]
    return {
        "u": torch.randn(streams, directions, batch, length, channels, dtype=dtype),
        "projected": torch.randn(streams, directions, batch, length, rank + 2 * states, dtype=dtype),
        "dt_weight": torch.randn(streams, directions, channels, rank, dtype=dtype),
        "A": -torch.rand(streams, directions, channels, states, dtype=dtype),
        "D": torch.randn(streams, directions, channels, dtype=dtype),
        "delta_bias": torch.randn(streams, directions, channels, dtype=dtype),
        "order": order,
    }


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_scan_adds_each_direction_at_its_tokens(backend: str) -> None:
    v = _inputs(torch.float64)
    with scan_backend(backend):
        found = permuted_selective_scan(**v)
    expected = torch.zeros_like(found)
    for s in range(2):
        for k in range(4):
            steps, B, C = v["projected"][s, k].transpose(1, 2).split([3, 4, 4], dim=1)
            y = selective_scan(
                v["u"][s, k].transpose(1, 2), v["dt_weight"][s, k] @ steps, v["A"][s, k], B, C, v["D"][s, k],
                delta_bias=v["delta_bias"][s, k], delta_softplus=True, backend="reference",
            )  # fmt: skip
            expected[s].index_add_(1, v["order"][k], y.transpose(1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_recomputed_backward_equals_the_reference() -> None:
    grads = []
    for backend in ("torch", "reference"):
        v = _inputs(torch.float64)
        leaves = {name: value.requires_grad_() for name, value in v.items() if name != "order"}
        with scan_backend(backend):
            permuted_selective_scan(**leaves, order=v["order"]).square().sum().backward()
        grads.append([leaf.grad for leaf in leaves.values()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_convolution_is_causal_along_each_direction() -> None:
    torch.manual_seed(0)
    order = scan_orders([3, 5], ["01", "-10"], CPU)
    x = torch.randn(2, 2, 15, 6, dtype=torch.float64)
    weight, bias = torch.randn(2, 2, 6, 4, dtype=torch.float64), torch.randn(2, 2, 6, dtype=torch.float64)
    x_proj = torch.randn(2, 2, 3, 6, dtype=torch.float64)
    found, projected = permuted_conv1d_silu(x, weight, bias, x_proj, order)
    torch.testing.assert_close(projected, torch.einsum("skbld,skpd->skblp", found, x_proj))
    for s in range(2):
        for k in range(2):
            sequence = F.pad(x[s][:, order[k]].transpose(1, 2), (3, 0))
            expected = F.silu(F.conv1d(sequence, weight[s, k].unsqueeze(1), bias[s, k], groups=6)).transpose(1, 2)
            torch.testing.assert_close(found[s, k], expected)
