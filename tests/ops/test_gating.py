"""The gated normalization: both forms against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clinicalfmamba_nets.ops import gated_norm, native, scan_backend

needs_native = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
BACKENDS = ["torch", pytest.param("native", marks=needs_native)]


def make_inputs(S: int, B: int, L: int, D: int, normalized: bool) -> list[torch.Tensor]:
    """y, z (a view, as the halves of a projection are), and the scale and offset in float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = [3 * normal(S, B, L, D) + 1, 4 * normal(S, B, L, 2 * D)[..., D:]]
    return tensors + [normal(S, D), normal(S, D)] if normalized else tensors


def results(inputs: list[torch.Tensor], divisor: float) -> list[torch.Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = gated_norm(*leaves, divisor=divisor)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).cos())
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 37, 32), (1, 1, 1, 16), (2, 1, 70, 144)], ids=str)
def test_outputs_and_gradients_match_float64(backend: str, normalized: bool, shape: tuple[int, ...]) -> None:
    inputs = make_inputs(*shape, normalized)
    with scan_backend("reference"):
        expected = results(inputs, 4.0)
    y = inputs[0] * F.silu(inputs[1]) / 4.0
    if normalized:
        scale, offset = (t[:, None, None] for t in inputs[2:])
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * scale + offset
    torch.testing.assert_close(expected[0], y)
    with scan_backend(backend):
        found = results([t.float() for t in inputs], 4.0)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.double() - theirs).norm() <= 2e-6 * theirs.norm()


@needs_native
def test_extreme_gates_and_equal_channels_stay_finite() -> None:
    y, z = torch.ones(1, 1, 3, 16), torch.tensor([-1e4, 0.0, 1e4]).view(1, 1, 3, 1).expand(1, 1, 3, 16)
    with scan_backend("native"):
        found = results([y, z.clone(), torch.ones(1, 16), torch.zeros(1, 16)], 1.0)
        plain = results([y, z.clone()], 1.0)
    assert all(t.isfinite().all() for t in found + plain)
    torch.testing.assert_close(plain[0][0, 0, :, 0], torch.tensor([0.0, 0.0, 1e4]))


@needs_native
def test_one_and_two_threads_give_the_same_bits() -> None:
    inputs, before, found = [t.float() for t in make_inputs(2, 2, 90, 64, True)], torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with scan_backend("native"):
                found.append(results(inputs, 4.0))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_native
def test_shapes_that_do_not_fit_are_named() -> None:
    y, weight = torch.ones(1, 1, 2, 16), torch.ones(1, 8)
    with pytest.raises(ValueError, match=r"weight: expected \(1, 16\), found \(1, 8\)"):
        torch.ops.clinicalfmamba.gated_norm(y, y, weight, weight, 1.0)
    with pytest.raises(ValueError, match="multiple of 16 channels, found 8"):
        torch.ops.clinicalfmamba.gated_norm(y[..., :8], y[..., :8], None, None, 1.0)
