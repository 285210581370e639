"""The native selective scan, in the layout of mamba-ssm, against the float64 loop."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.ops import native
from clinicalfmamba_nets.ops.selective_scan import selective_scan

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")

OUTPUT_ERROR, GRADIENT_ERROR = 1e-6, 5e-6
OPTIONS = {
    "everything": {"D", "z", "delta_bias", "softplus"},
    "as mamba": {"D", "delta_bias", "softplus"},
    "bare": set(),
    "gate only": {"z"},
    "bias only": {"delta_bias"},
}
# B, D, L, N, groups (0: B and C without that axis): whole vectors and tiles, then every tail
SHAPES = [
    (1, 32, 32, 8, 0),
    (1, 1, 1, 4, 0),
    (2, 33, 17, 8, 0),
    (5, 16, 15, 16, 0),
    (3, 40, 47, 4, 2),
    (1, 66, 33, 16, 3),
    (2, 272, 20, 8, 1),
]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 distance to a float64 tensor; absolute where that is zero."""
    scale = expected.norm().item() or 1.0
    return (found.double() - expected).norm().item() / scale


def make_inputs(shape: tuple[int, ...], options: set[str], seed: int = 0) -> list[torch.Tensor | None]:
    """u, delta, A, B, C, D, z, delta_bias in float64; None for what is not among the options."""
    batch, channels, length, states, groups = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    projected = (batch, groups, states, length) if groups else (batch, states, length)
    delta = normal(batch, channels, length)
    bias = normal(channels)
    if "softplus" not in options:
        delta, bias = delta.abs() * 0.2, bias.abs() * 0.1
    A = -0.1 - 8 * torch.rand(channels, states, generator=generator, dtype=torch.float64)
    return [
        *(normal(batch, channels, length), delta, A, normal(*projected), normal(*projected)),
        normal(channels) if "D" in options else None,
        normal(batch, channels, length) if "z" in options else None,
        bias if "delta_bias" in options else None,
    ]


def run(inputs: list[torch.Tensor | None], options: set[str], backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """y, the last state and every gradient, with gradients coming in through both."""
    leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in inputs]
    y, last = selective_scan(*leaves, "softplus" in options, True, backend)
    weights = [torch.linspace(-1, 1, t.numel(), dtype=dtype).view_as(t).cos() for t in (y, last)]
    torch.autograd.backward([y, last], weights)
    return [y.detach(), last.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_outputs_and_gradients_match_float64(shape: tuple[int, ...], options: set[str]) -> None:
    inputs = make_inputs(shape, options)
    expected = run(inputs, options, "reference", torch.float64)
    found = run(inputs, options, "native", torch.float32)
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors[:2]) <= OUTPUT_ERROR, errors
    assert max(errors[2:]) <= GRADIENT_ERROR, errors


def test_slow_decay_keeps_its_accuracy() -> None:
    """Time steps of 0.001 remember a thousand tokens: an error of the exponential would add up."""
    inputs = make_inputs((1, 16, 2000, 8, 0), set())
    inputs[1] = torch.full_like(inputs[1], 1e-3) * (1 + torch.rand_like(inputs[1]))
    expected = run(inputs, set(), "reference", torch.float64)
    found = run(inputs, set(), "native", torch.float32)
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors[:2]) <= OUTPUT_ERROR, errors
    assert max(errors[2:]) <= GRADIENT_ERROR, errors


def test_time_steps_up_to_20_and_far_below_zero_stay_finite() -> None:
    options = {"softplus", "D", "z"}
    inputs = make_inputs((1, 16, 50, 16, 0), options)
    inputs[1] = torch.linspace(-120, 20, inputs[1].numel(), dtype=torch.float64).view_as(inputs[1])
    inputs[6] = torch.linspace(-200, 200, inputs[6].numel(), dtype=torch.float64).view_as(inputs[6])
    expected = run(inputs, options, "reference", torch.float64)
    found = run(inputs, options, "native", torch.float32)
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors[:2]) <= OUTPUT_ERROR, errors
    assert max(errors[2:]) <= GRADIENT_ERROR, errors


def test_nan_is_passed_on_to_its_own_channel_alone() -> None:
    inputs = [None if t is None else t.float() for t in make_inputs((1, 20, 30, 8, 0), {"softplus"})]
    inputs[1][0, 3, 10] = float("nan")
    y = selective_scan(*inputs, True, backend="native")
    assert y[0, 3, 10:].isnan().all()
    assert y[0, 3, :10].isfinite().all() and y[0, :3].isfinite().all() and y[0, 4:].isfinite().all()


@pytest.mark.parametrize("shape", [(1, 300, 70, 8, 0), (3, 48, 33, 16, 3)], ids=str)
def test_one_and_two_threads_give_the_same_bits(shape: tuple[int, ...]) -> None:
    options = OPTIONS["everything"]
    inputs = make_inputs(shape, options)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(inputs, options, "native", torch.float32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*results, strict=True))


def test_token_major_views_are_read_in_place_with_the_same_result() -> None:
    options = OPTIONS["everything"]
    plain = [None if t is None else t.float() for t in make_inputs((2, 40, 37, 8, 0), options)]
    views = [t.transpose(1, 2).contiguous().transpose(1, 2) if t is not None and t.dim() == 3 else t for t in plain]
    assert not views[0].is_contiguous()
    assert torch.equal(selective_scan(*plain, True, backend="native"), selective_scan(*views, True, backend="native"))


def test_only_the_gradients_asked_for_are_returned() -> None:
    inputs = [None if t is None else t.float() for t in make_inputs((1, 16, 20, 8, 0), set())]
    inputs[2].requires_grad_()
    selective_scan(*inputs, backend="native").sum().backward()
    assert inputs[2].grad.abs().sum() > 0 and inputs[0].grad is None


@pytest.mark.parametrize("states", [3, 5, 32])
def test_other_numbers_of_states_are_reported_as_not_supported(states: int) -> None:
    inputs = [None if t is None else t.float() for t in make_inputs((1, 16, 5, states, 0), set())]
    with pytest.raises(RuntimeError, match=f"not {states}"):
        selective_scan(*inputs, backend="native")
    assert selective_scan(*inputs).isfinite().all()  # another backend serves


@pytest.mark.slow
def test_65536_tokens_match_float64() -> None:
    options = {"D", "delta_bias", "softplus"}
    inputs = make_inputs((1, 16, 65536, 8, 0), options)
    found = run(inputs, options, "native", torch.float32)
    assert all(t.isfinite().all() for t in found)
    expected = run(inputs, options, "torch", torch.float64)
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors[:2]) <= OUTPUT_ERROR, errors
    assert max(errors[2:]) <= GRADIENT_ERROR, errors
