"""What recorded graphs run in place of the kernels, in inference: the same numbers as the plain operations."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.ops import permuted_conv1d_silu, permuted_selective_scan, scan_backend, scan_orders

ANY = torch.export.Dim.AUTO


class _Layer(torch.nn.Module):
    """Convolution and scan along four directions with random weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        streams, directions, channels, states, rank = 2, 4, 16, 4, 3
        self.taps, self.bias = torch.randn(streams, directions, channels, 4), torch.randn(streams, directions, channels)
        self.x_proj = torch.randn(streams, directions, rank + 2 * states, channels)
        self.dt_weight, self.D = torch.randn(streams, directions, channels, rank), torch.randn_like(self.bias)
        self.A = -torch.rand(streams, directions, channels, states) * 4

    def forward(self, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Tokens (S, B, L, D) -> (S, B, L, D)."""
        u, projected = permuted_conv1d_silu(x, self.taps, self.bias, self.x_proj, order)
        return permuted_selective_scan(u, projected, self.dt_weight, self.A, self.D, self.bias, order)


def _inputs(batch: int, grid: list[int], scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    order = scan_orders(grid, ["01", "-01", "10", "-10"], torch.device("cpu"))
    return torch.randn(2, batch, grid[0] * grid[1], 16) * scale, order


def _programs() -> dict:
    layer, example = _Layer(), _inputs(2, [5, 8])
    shapes = ({1: ANY, 2: ANY}, {1: ANY})
    with torch.no_grad(), scan_backend("torch"):
        exported = torch.export.export(layer, example, dynamic_shapes=shapes, strict=False)
        return {
            "eager": layer,
            "script": torch.jit.script(layer),
            "trace": torch.jit.trace(layer, example, check_trace=False),
            "export": exported.module(check_guards=False),
        }


@pytest.mark.filterwarnings("ignore")
def test_scripted_traced_and_exported_layers_give_what_the_plain_one_gives() -> None:
    programs = _programs()
    for batch, grid, scale in ((1, [1, 1], 1.0), (1, [4, 4], 1.0), (3, [9, 11], 1.0), (2, [3, 50], 100.0)):
        x, order = _inputs(batch, grid, scale)
        with torch.no_grad(), scan_backend("reference"):
            expected = programs["eager"](x, order)
        assert expected.isfinite().all()
        for name in ("script", "trace", "export"):
            with torch.no_grad(), scan_backend("torch"):
                found = programs[name](x, order)
            tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-4, msg=f"{name}, {batch} x {grid}")
            assert not found.requires_grad


@pytest.mark.filterwarnings("ignore")
def test_scripted_and_traced_layers_have_gradients_where_they_are_asked_for() -> None:
    programs = _programs()
    gradients = []
    for name in ("eager", "script", "trace"):
        x, order = _inputs(1, [4, 5])
        x = torch.ones_like(x).requires_grad_()
        with scan_backend("torch"):
            programs[name](x, order).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1:], gradients[:1] * 2)
