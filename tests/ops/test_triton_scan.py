"""The Triton scan against the float64 loop; on a GPU, or with TRITON_INTERPRET=1 in Triton's interpreter on the CPU."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.ops import cuda, permuted, triton_scan
from clinicalfmamba_nets.ops.reference import selective_scan_reference
from clinicalfmamba_nets.ops.triton_loader import interpreting, load
from clinicalfmamba_nets.ops.triton_scan import selective_scan_triton

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.skipif(load()[0] is None, reason=f"{load()[1]}; TRITON_INTERPRET=1 runs these on the CPU")
DEVICE = "cpu" if interpreting() else "cuda"


def _values(batch: int, channels: int, length: int, states: int, groups: int | None) -> dict:
    g = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    projection = (batch, states, length) if groups is None else (batch, groups, states, length)
    return {
        "u": normal(batch, channels, length),
        "delta": normal(batch, channels, length) - 1,
        "A": -torch.rand(channels, states, generator=g) * 4 - 0.1,
        "B": normal(*projection),
        "C": normal(*projection),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": normal(channels) * 0.1,
    }


def _run(scan, values: dict, dtype: torch.dtype, device: str, softplus: bool = True, with_last: bool = True) -> dict:
    leaves = {name: value.to(device, dtype).requires_grad_() for name, value in values.items()}
    y, last = scan(**leaves, delta_softplus=softplus)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    loss = (y * weight).sum() + (last.double().square().sum() if with_last else 0.0)
    loss.backward()
    grads = {f"d{name}": leaf.grad.cpu() for name, leaf in leaves.items()}
    return {"y": y.detach().cpu(), "last": last.detach().cpu(), **grads}


def _distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp_min(1e-12))


def _compare(values: dict, **how: bool) -> None:
    truth = _run(selective_scan_reference, values, torch.float64, "cpu", **how)
    found = _run(selective_scan_triton, values, torch.float32, DEVICE, **how)
    for name, value in found.items():
        assert value.shape == truth[name].shape, name
        assert _distance(value, truth[name]) <= (1e-6 if name in ("y", "last") else 5e-6), name


@pytest.mark.parametrize(
    ("batch", "channels", "length", "states", "groups"),
    [(1, 3, 1, 4, None), (2, 2, 7, 8, None), (1, 6, 33, 16, 2), (1, 1, 130, 5, 1), (1, 34, 3, 4, 2)],
)
def test_output_state_and_gradients_equal_the_loop(batch, channels, length, states, groups) -> None:
    _compare(_values(batch, channels, length, states, groups))


@pytest.mark.parametrize("absent", ["D", "z", "delta_bias"])
def test_each_optional_argument_may_be_absent(absent) -> None:
    values = _values(1, 2, 5, 4, None)
    del values[absent]
    _compare(values)


def test_without_options_softplus_or_use_of_the_state() -> None:
    values = _values(1, 2, 35, 4, None)
    for name in ("D", "z", "delta_bias"):
        del values[name]
    values["delta"] = values["delta"].abs()
    _compare(values, softplus=False, with_last=False)


def test_small_and_large_steps_keep_their_digits() -> None:
    values = _values(1, 2, 40, 4, None)
    values["delta"] = torch.cat([torch.linspace(-16, -8, 20), torch.linspace(8, 40, 20)]).expand(1, 2, 40).contiguous()
    _compare(values)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_half_precision_loses_only_the_rounding_of_its_results(dtype, tolerance) -> None:
    values = {name: value.to(dtype) for name, value in _values(1, 2, 35, 4, None).items()}
    truth = _run(selective_scan_reference, values, torch.float64, "cpu")
    found = _run(selective_scan_triton, values, dtype, DEVICE)
    assert found["last"].dtype == torch.float32
    for name, value in found.items():
        assert value.dtype == dtype or name == "last"
        assert _distance(value, truth[name]) <= tolerance, name


def test_gradients_repeat_bit_for_bit_whatever_the_number_of_programs(monkeypatch) -> None:
    values = _values(1, 2, 66, 4, 2)
    first = _run(selective_scan_triton, values, torch.float32, DEVICE)
    monkeypatch.setattr(triton_scan, "PROGRAMS", 2)
    second = _run(selective_scan_triton, values, torch.float32, DEVICE)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_sequences_by_token_are_read_and_written_as_they_lie() -> None:
    values = {name: value.to(DEVICE) for name, value in _values(2, 4, 6, 4, 2).items()}
    expected, _ = selective_scan_triton(**values)
    for name in ("u", "delta", "z"):  # (B, D, L) -> (B, G, D / G, L), tokens outermost in memory
        by_token = values[name].unflatten(1, (2, 2)).permute(0, 1, 3, 2).contiguous()
        values[name] = by_token.permute(0, 1, 3, 2)
    found, _ = selective_scan_triton(**values)
    assert found.stride() == values["u"].stride()
    assert torch.equal(found.flatten(1, 2), expected)


def test_operators_are_registered_in_full() -> None:
    values = {name: value.to(DEVICE).requires_grad_() for name, value in _values(1, 2, 3, 4, 1).items()}
    for name in ("u", "delta", "z"):
        values[name] = values[name].detach().unflatten(1, (1, 2)).requires_grad_()
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    torch.library.opcheck(triton_scan.triton_scan, (*(values[name] for name in names), True))
    values["z"] = values["D"] = None
    torch.library.opcheck(triton_scan.triton_scan, (*(values[name] for name in names), False))


def test_torch_compile_takes_it_whole() -> None:
    values = {name: value.to(DEVICE) for name, value in _values(1, 2, 3, 4, None).items()}
    compiled = torch.compile(selective_scan_triton, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(**values), selective_scan_triton(**values), strict=True):
        assert torch.equal(found, expected)


def test_no_sequences_give_no_outputs() -> None:
    u, B = torch.zeros(0, 2, 3, device=DEVICE, requires_grad=True), torch.zeros(0, 4, 3, device=DEVICE)
    A = torch.full((2, 4), -1.0, device=DEVICE, requires_grad=True)
    y, last = selective_scan_triton(u, u, A, B, B)
    (y.sum() + last.sum()).backward()
    assert y.shape == (0, 2, 3) and torch.equal(A.grad, torch.zeros_like(A))


def test_permuted_scan_runs_through_it(monkeypatch) -> None:
    monkeypatch.setattr(cuda, "load", lambda: (selective_scan_triton, "for this test"))
    g = torch.Generator().manual_seed(0)
    streams, directions, batch, length, channels, states, rank = 2, 2, 1, 4, 3, 4, 2
    tokens = (streams, directions, batch, length)
    shapes = [
        (*tokens, channels), (*tokens, rank + 2 * states), (streams, directions, channels, rank),
        (streams, directions, channels, states), (streams, directions, channels), (streams, directions, channels),
    ]  # fmt: skip
    inputs = [torch.randn(shape, generator=g) for shape in shapes]
    inputs[3] = -inputs[3].abs()
    order = torch.tensor([[0, 1, 2, 3], [2, 0, 3, 1]])
    results = []
    for name, dtype, device in (("reference", torch.float64, "cpu"), ("cuda", torch.float32, DEVICE)):
        leaves = [x.to(device, dtype).requires_grad_() for x in inputs]
        y = permuted._scan_grouped(name, *leaves, order.to(device))
        y.square().sum().backward()
        results.append([y.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)])
    for truth, found in zip(*results, strict=True):
        assert _distance(found, truth) <= 5e-6
