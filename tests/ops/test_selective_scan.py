"""Every portable backend against the float64 loop: forward, last state and each gradient."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from clinicalfmamba_nets.ops import backend_report, scan_backend, selective_scan
from clinicalfmamba_nets.ops.backends import requested_backend, resolve_backend

NAMES = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"]


def _inputs(batch: int, channels: int, length: int, states: int, groups: int | None, seed: int = 0) -> dict:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    projection = (batch, states, length) if groups is None else (batch, groups, states, length)
    values = {
        "u": normal(batch, channels, length),
        "delta": normal(batch, channels, length) - 1,
        "A": -torch.rand(channels, states, generator=g, dtype=torch.float64) * 4 - 0.1,
        "B": normal(*projection),
        "C": normal(*projection),
        "D": normal(channels),
        "z": normal(batch, channels, length),
        "delta_bias": normal(channels) * 0.1,
    }
    return {name: value.requires_grad_() for name, value in values.items()}


def _run(values: dict, backend: str, weight: torch.Tensor) -> tuple:
    y, last = selective_scan(**values, delta_softplus=True, return_last_state=True, backend=backend)
    ((y * weight).sum() + last.square().sum()).backward()
    return y.detach(), last.detach(), [values[name].grad for name in NAMES]


@pytest.mark.parametrize(
    ("batch", "channels", "length", "states", "groups"),
    [(1, 3, 1, 4, None), (2, 5, 31, 8, None), (1, 6, 32, 16, 2), (2, 4, 33, 3, 4), (1, 2, 200, 8, 1)],
)
def test_torch_form_equals_the_loop(batch, channels, length, states, groups) -> None:
    weight = torch.randn(batch, channels, length, dtype=torch.float64)
    truth = _run(_inputs(batch, channels, length, states, groups), "reference", weight)
    found = _run(_inputs(batch, channels, length, states, groups), "torch", weight)
    torch.testing.assert_close(found[0], truth[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], truth[1], rtol=1e-10, atol=1e-10)
    for name, ours, theirs in zip(NAMES, found[2], truth[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, msg=name)


class _Scan(torch.nn.Module):
    def forward(self, u, delta, A, B, C):
        return selective_scan(u, delta, A, B, C, delta_softplus=True, return_last_state=True)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_recorded_scan_is_small_and_takes_any_length() -> None:
    def inputs(length: int) -> list[torch.Tensor]:
        return [_inputs(2, 4, length, 3, 2)[name].detach() for name in ("u", "delta", "A", "B", "C")]

    with torch.no_grad():
        traced = torch.jit.trace(_Scan(), inputs(100), check_trace=False)
        for length in (1, 63, 64, 65, 513, 5000):
            given = inputs(length)
            expected = selective_scan(*given, delta_softplus=True, return_last_state=True, backend="reference")
            torch.testing.assert_close(traced(*given), expected, rtol=1e-10, atol=1e-10)
    operations = [node for node in traced.inlined_graph.nodes() if not node.kind().startswith("prim::")]
    assert len(operations) < 500


def test_long_sequences_and_large_steps_stay_finite() -> None:
    length = 65536
    u = torch.randn(1, 2, length, generator=torch.Generator().manual_seed(1))
    B, C = torch.ones(2, 1, 4, length)
    for delta in (1e-4, 20.0):
        y = selective_scan(u, torch.full_like(u, delta), -torch.ones(2, 4), B, C, backend="torch")
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("A", (3, 4), "A: expected"),
        ("B", (1, 5, 6), "B: expected"),
        ("z", (1, 2, 5), "z: expected"),
        ("u", (2, 6), "u: expected"),
    ],
)
def test_wrong_shapes_are_named(name, shape, message) -> None:
    values = {k: v.detach() for k, v in _inputs(1, 2, 6, 4, None).items()}
    values[name] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        selective_scan(**values)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("u", torch.int64, "u: expected a floating-point type, found torch.int64"),
        ("u", torch.complex64, "u: expected a floating-point type, found torch.complex64"),
        ("A", torch.complex64, "A: expected real numbers, found torch.complex64"),
    ],
)
def test_types_that_would_lose_values_are_named(name, dtype, message) -> None:
    values = {k: v.detach() for k, v in _inputs(1, 2, 6, 4, None).items()}
    values[name] = values[name].to(dtype)
    with pytest.raises(ValueError, match=message):
        selective_scan(**values)


def test_backend_choice_can_be_forced_and_is_reported(monkeypatch) -> None:
    u = torch.zeros(1, 2, 3)
    assert resolve_backend(u.double(), 8) == "torch"
    with scan_backend("reference"):
        assert resolve_backend(u, 8) == "reference"
        assert backend_report()["reference"]["active"]
    monkeypatch.setenv("CLINICALFMAMBA_SCAN_BACKEND", "torch")
    assert resolve_backend(u, 8) == "torch"
    assert [name for name, row in backend_report().items() if row["active"]] == ["torch"]
    with pytest.raises(ValueError, match="unknown scan backend 'fast'"):
        resolve_backend(u, 8, "fast")
    with pytest.raises(RuntimeError, match="scan backend 'cuda' cannot run here"):
        resolve_backend(u, 8, "cuda")


def test_a_backend_holds_in_its_own_thread_and_task(monkeypatch) -> None:
    monkeypatch.delenv("CLINICALFMAMBA_SCAN_BACKEND", raising=False)
    with scan_backend("reference"), ThreadPoolExecutor(1) as pool:
        assert requested_backend() == "reference"
        assert pool.submit(requested_backend).result() == "auto"

    async def within(name: str, meeting: list[asyncio.Event]) -> str:
        with scan_backend(name):
            meeting[0].set()
            await meeting[1].wait()
            return requested_backend()

    async def both() -> list[str]:
        events = [asyncio.Event(), asyncio.Event()]
        return await asyncio.gather(within("torch", events), within("reference", events[::-1]))

    assert asyncio.run(both()) == ["torch", "reference"]
    with pytest.raises(KeyError), scan_backend("torch"):
        raise KeyError
    assert requested_backend() == "auto"


@pytest.mark.parametrize("name", ["cuda", "native", "torch", "reference"])
def test_the_report_and_the_scan_agree(monkeypatch, name) -> None:
    monkeypatch.setenv("CLINICALFMAMBA_SCAN_BACKEND", name)
    row = backend_report()[name]
    assert row["active"] == row["available"]
    assert "CLINICALFMAMBA_SCAN_BACKEND" in str(row["reason"])
    if not row["available"]:
        assert "cannot run" in str(row["reason"])
        with pytest.raises(RuntimeError, match="cannot run here"):
            resolve_backend(torch.zeros(1, 2, 3), 8)


def test_an_unknown_backend_in_the_environment_is_named(monkeypatch) -> None:
    monkeypatch.setenv("CLINICALFMAMBA_SCAN_BACKEND", "fast")
    with pytest.raises(ValueError, match="CLINICALFMAMBA_SCAN_BACKEND: unknown scan backend 'fast'"):
        backend_report()


def test_an_exported_scan_loops_over_chunks_and_takes_any_batch_and_length() -> None:
    """Recorded token by token, a graph of torch.export kept thousands of maps of states in memory."""

    def inputs(batch: int, length: int) -> tuple[torch.Tensor, ...]:
        values = _inputs(batch, 8, length, 4, None)
        return tuple(values[name].detach() for name in NAMES[:5])

    class Scan(torch.nn.Module):
        def forward(self, u, delta, A, B, C):
            return selective_scan(u, delta, A, B, C, delta_softplus=True)

    any_size = torch.export.Dim.AUTO
    shapes = [None if name == "A" else {0: any_size, 2: any_size} for name in NAMES[:5]]
    with torch.no_grad(), scan_backend("torch"):
        program = torch.export.export(Scan(), inputs(2, 40), dynamic_shapes=tuple(shapes), strict=False)
    assert len(program.graph.nodes) < 200 and "higher_order.while_loop" in program.graph_module.code
    for sizes in ((2, 40), (1, 1), (3, 16), (2, 333)):
        given = inputs(*sizes)
        expected = selective_scan(*given, delta_softplus=True, backend="reference")
        torch.testing.assert_close(program.module(check_guards=False)(*given), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loop_stands_large_time_steps(dtype) -> None:
    values = {k: v.detach() for k, v in _inputs(1, 3, 9, 4, None).items()}
    large = {name: value.to(dtype) for name, value in (values | {"delta": values["delta"] * 1e3}).items()}
    expected = selective_scan(**large, delta_softplus=True, backend="torch")
    found = selective_scan(**large, delta_softplus=True, backend="reference")
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: None, "expected a tensor, found NoneType"),
        (lambda t: t.detach().numpy(), "expected a tensor, found ndarray"),
        (lambda t: t.detach().to_sparse(), "expected a dense tensor, found torch.sparse_coo"),
        (
            lambda t: t.detach().to(torch.float8_e4m3fn),
            "expected numbers of 16 bits or more, found torch.float8_e4m3fn",
        ),
    ],
)
def test_what_is_no_plain_tensor_is_named(make, message) -> None:
    values = {k: v.detach() for k, v in _inputs(1, 2, 6, 4, None).items()}
    for name in NAMES:
        given = make(values[name])
        if given is not None or name not in ("D", "z", "delta_bias"):
            with pytest.raises(ValueError, match=f"^{name}: {message}"):
                selective_scan(**(values | {name: given}))


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_of_two_types_are_scanned_in_the_wider(backend, dtype) -> None:
    values = {k: v.detach() for k, v in _inputs(1, 3, 9, 4, None).items()}
    expected = selective_scan(**values, delta_softplus=True, backend="reference", return_last_state=True)
    single = {name: value.float() for name, value in values.items()}
    other = torch.float64 if dtype == torch.float32 else torch.float32
    for name in NAMES:
        mixed = {k: v.to(other if k == name else dtype) for k, v in single.items()}
        y, last = selective_scan(**mixed, delta_softplus=True, backend=backend, return_last_state=True)
        assert y.dtype == last.dtype == mixed["u"].dtype
        torch.testing.assert_close((y.double(), last.double()), expected, rtol=1e-4, atol=1e-5)
