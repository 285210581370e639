"""The native permuted convolution and scan against float64."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.backends import scan_backend
from clinicalfmamba_nets.ops.permuted import permuted_conv1d_silu, permuted_selective_scan

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")

OUTPUT_ERROR, GRADIENT_ERROR = 1e-6, 5e-6
# S, K, B, L, D, N, taps, rank of the time steps: whole vectors and tiles, then every tail
SHAPES = [
    (2, 4, 2, 32, 32, 8, 4, 8),
    (1, 1, 1, 1, 16, 8, 4, 1),
    (2, 4, 1, 37, 48, 8, 4, 3),
    (1, 3, 3, 17, 5, 4, 3, 9),
    (1, 2, 2, 3, 33, 16, 2, 17),
    (1, 1, 1, 130, 300, 8, 4, 8),
    (1, 2, 5, 15, 20, 16, 4, 2),
]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance to a float64 tensor; absolute where that is zero."""
    scale = expected.norm().item() or 1.0
    return (found.double() - expected).norm().item() / scale


def make_inputs(
    S: int, K: int, B: int, L: int, D: int, N: int, taps: int, rank: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """x, weight, bias, x_proj, dt_weight, A, D, delta_bias in float64, and the order."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    order = torch.stack([torch.randperm(L, generator=generator) for _ in range(K)])
    A = -8 * torch.rand(S, K, D, N, generator=generator, dtype=torch.float64)
    x_proj, dt_weight = D**-0.5 * normal(S, K, rank + 2 * N, D), rank**-0.5 * normal(S, K, D, rank)
    tensors = [normal(S, B, L, D), normal(S, K, D, taps), normal(S, K, D), x_proj, dt_weight, A]
    return [*tensors, normal(S, K, D), normal(S, K, D) - 2], order


def run(inputs: list[torch.Tensor], order: torch.Tensor, backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """u, its projection, y and every gradient of the two steps chained as in the network."""
    x, weight, bias, x_proj, dt_weight, A, D, delta_bias = leaves = [
        t.detach().to(dtype).requires_grad_() for t in inputs
    ]
    with scan_backend(backend):
        u, projected = permuted_conv1d_silu(x, weight, bias, x_proj, order)
        y = permuted_selective_scan(u, projected, dt_weight, A, D, delta_bias, order)
    y.backward(torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y).cos())
    return [u.detach(), projected.detach(), y.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_match_float64(shape: tuple[int, ...]) -> None:
    inputs, order = make_inputs(*shape)
    expected = run(inputs, order, "reference", torch.float64)
    found = run(inputs, order, "native", torch.float32)
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors[:3]) <= OUTPUT_ERROR, errors
    assert max(errors[3:]) <= GRADIENT_ERROR, errors


@pytest.mark.parametrize(
    "shape", [(2, 4, 1, 70, 256, 8, 4, 8), (1, 1, 1, 33, 40, 16, 4, 2), (1, 1, 1, 40, 300, 8, 4, 8)], ids=str
)
def test_one_and_two_threads_give_the_same_bits(shape: tuple[int, ...]) -> None:
    inputs, order = make_inputs(*shape)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(inputs, order, "native", torch.float32)
        torch.set_num_threads(2)
        two = run(inputs, order, "native", torch.float32)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("row", [[0, 1, 1], [0, 1, 3], [-1, 0, 1]])
def test_an_order_that_is_no_permutation_is_refused(row: list[int]) -> None:
    inputs, _ = make_inputs(1, 1, 1, 3, 16, 8, 4, 2)
    with pytest.raises(RuntimeError, match="each row must be a permutation"):
        run(inputs, torch.tensor([row]), "native", torch.float32)


def test_a_shape_that_does_not_fit_is_named() -> None:
    inputs, order = make_inputs(1, 2, 1, 6, 16, 8, 4, 2)
    inputs[6] = inputs[6][:, :1]
    with pytest.raises(ValueError, match=r"D: expected \(1, 2, 16\), found \(1, 1, 16\)"):
        run(inputs, order, "native", torch.float32)
