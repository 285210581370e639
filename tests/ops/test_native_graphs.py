"""The native operators in the graphs, threads and processes of torch."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from clinicalfmamba_nets.ops import native, scan_backend
from clinicalfmamba_nets.ops.selective_scan import selective_scan

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
ops = torch.ops.clinicalfmamba


def scan_inputs(requires_grad: bool = False, length: int = 21) -> tuple:
    """Arguments of the selective scan, (2, 20, L) with 8 states, gate and bias."""
    torch.manual_seed(0)
    u, delta, z = (torch.randn(2, 20, length) for _ in range(3))
    B, C = (torch.randn(2, 1, 8, length) for _ in range(2))
    tensors = [u, delta, -torch.rand(20, 8), B, C, torch.randn(20), z, torch.randn(20)]
    return *(t.requires_grad_(requires_grad) for t in tensors), True


def permuted_inputs(requires_grad: bool = False) -> tuple:
    """Arguments of the permuted scan: 2 weight sets, 2 directions, 13 tokens, 20 channels, 8 states, rank 3."""
    torch.manual_seed(0)
    u, projected, dt_weight = torch.randn(2, 2, 1, 13, 20), torch.randn(2, 2, 1, 13, 19), torch.randn(2, 2, 20, 3)
    tensors = [u, projected, dt_weight, -torch.rand(2, 2, 20, 8), torch.randn(2, 2, 20), torch.randn(2, 2, 20)]
    return *(t.requires_grad_(requires_grad) for t in tensors), torch.stack(
        [torch.arange(13), torch.arange(13).flip(0)]
    )


def conv_inputs(requires_grad: bool = False) -> tuple:
    """Arguments of the permuted convolution."""
    torch.manual_seed(0)
    tensors = [torch.randn(2, 1, 13, 20), torch.randn(2, 2, 20, 4), torch.randn(2, 2, 20), torch.randn(2, 2, 19, 20)]
    return *(t.requires_grad_(requires_grad) for t in tensors), torch.stack(
        [torch.arange(13), torch.arange(13).flip(0)]
    )


def gate_inputs(requires_grad: bool = False) -> tuple:
    """Arguments of the gated normalization."""
    torch.manual_seed(0)
    tensors = [torch.randn(2, 1, 13, 32), torch.randn(2, 1, 13, 32), torch.randn(2, 32), torch.randn(2, 32)]
    return *(t.requires_grad_(requires_grad) for t in tensors), 4.0


CASES = {
    "selective_scan": (ops.selective_scan, scan_inputs),
    "permuted_selective_scan": (ops.permuted_selective_scan, permuted_inputs),
    "permuted_conv1d_silu": (ops.permuted_conv1d_silu, conv_inputs),
    "gated_norm": (ops.gated_norm, gate_inputs),
}
cases = pytest.mark.parametrize(("operator", "inputs"), CASES.values(), ids=CASES)


def first(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The output, or the first of several."""
    return output if isinstance(output, torch.Tensor) else output[0]


class Call(torch.nn.Module):
    """An operator as a module, with its last argument fixed where that is no tensor."""

    def __init__(self, operator, fixed: tuple = ()) -> None:
        super().__init__()
        self.operator, self.fixed = operator, fixed

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return first(self.operator(*tensors, *self.fixed))


def module_and_tensors(operator, inputs) -> tuple[Call, tuple[torch.Tensor, ...]]:
    """The operator as a module of tensors alone."""
    arguments = inputs()
    fixed = tuple(a for a in arguments if not isinstance(a, torch.Tensor))
    return Call(operator, fixed), tuple(a for a in arguments if isinstance(a, torch.Tensor))


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        (ops.selective_scan_states, lambda: (*scan_inputs(True), True)),
        (ops.permuted_selective_scan_states, lambda: (*permuted_inputs(True), True)),
        (ops.permuted_conv1d_silu_forward, lambda: conv_inputs(True)),
        (ops.gated_norm_forward, lambda: gate_inputs(True)),
    ],
    ids=["selective_scan", "permuted_selective_scan", "permuted_conv1d_silu", "gated_norm"],
)
def test_operators_pass_torchs_own_check(operator, inputs) -> None:
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(operator, inputs(), test_utils=checks)


@cases
def test_traced_graphs_give_the_same(operator, inputs) -> None:
    module, tensors = module_and_tensors(operator, inputs)
    traced = torch.jit.trace(module, tensors, check_trace=False)
    assert torch.equal(traced(*tensors), module(*tensors))


@cases
def test_exported_graphs_give_the_same(operator, inputs) -> None:
    module, tensors = module_and_tensors(operator, inputs)
    exported = torch.export.export(module, tensors)
    assert torch.equal(exported.module()(*tensors), module(*tensors))


@cases
def test_compiled_graphs_are_whole_and_give_the_same_gradients(operator, inputs) -> None:
    compiled = torch.compile(lambda *a: first(operator(*a)).square().sum(), fullgraph=True, backend="aot_eager")
    plain = lambda *a: first(operator(*a)).square().sum()  # noqa: E731
    arguments = inputs(True)
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    found = torch.autograd.grad(compiled(*arguments), leaves)
    expected = torch.autograd.grad(plain(*arguments), leaves)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_autocast_and_half_inputs_scan_in_float32() -> None:
    arguments = scan_inputs()
    expected = ops.selective_scan(*arguments)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.selective_scan(*arguments)[0], expected)
        y, _ = ops.selective_scan(*(a.bfloat16() for a in arguments[:5]), *arguments[5:])
        x, *rest = conv_inputs()
        assert ops.permuted_conv1d_silu(x.bfloat16(), *rest)[0].dtype == torch.float32
    assert y.dtype == torch.float32


class Scans(Dataset):
    """Each item is a scan, run in the worker that is asked for it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        torch.set_num_threads(2)
        return ops.selective_scan(*scan_inputs(length=40))[0] + index


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_scan_after_the_parent_has_used_its_threads(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = ops.selective_scan(*scan_inputs(length=40))[0]
        loader = DataLoader(Scans(), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120)
        assert all(torch.equal(y, expected + i) for i, y in enumerate(loader))
    finally:
        torch.set_num_threads(before)


def test_a_fork_in_the_middle_of_training_does_not_hang() -> None:
    code = (
        "import os, torch\n"
        "from clinicalfmamba_nets.ops import native\n"
        "native.load()\n"
        "torch.set_num_threads(2)\n"
        "a = [torch.randn(4, 64, 99), torch.randn(4, 64, 99), -torch.rand(64, 8), torch.randn(4, 1, 8, 99),"
        " torch.randn(4, 1, 8, 99), None, None, None, True]\n"
        "y = torch.ops.clinicalfmamba.selective_scan(*a)[0]\n"
        "pid = os.fork()\n"
        "same = torch.equal(y, torch.ops.clinicalfmamba.selective_scan(*a)[0]) if pid == 0 else None\n"
        "os._exit(0 if same else 3) if pid == 0 else print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


def data_parallel_worker(rank: int, port: int, results: multiprocessing.Queue) -> None:
    """One rank: a scan with a learned A under DistributedDataParallel; sends the averaged gradient."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)

    class Scan(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates = torch.nn.Parameter(-torch.ones(20, 8))

        def forward(self, u: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
            return selective_scan(u, u.abs(), self.rates, projected, projected, backend="native")

    model = torch.nn.parallel.DistributedDataParallel(Scan())
    torch.manual_seed(rank)
    model(torch.randn(1, 20, 30), torch.randn(1, 8, 30)).sum().backward()
    results.put((rank, model.module.rates.grad.tolist()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_data_parallel_ranks_share_their_gradients(unused_port: int) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=data_parallel_worker, args=(rank, unused_port, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    gradients = dict(results.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(60)
    assert gradients[0] == gradients[1] and any(map(any, gradients[0]))


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_compiled_scan_is_whole_and_follows_the_backend_asked_for() -> None:
    arguments = [a.detach() for a in scan_inputs()[:5]]
    used = []

    def spy(graph: torch.fx.GraphModule, inputs: list):
        used.append(any("clinicalfmamba" in str(node.target) for node in graph.graph.nodes))
        return graph

    compiled = torch.compile(lambda *a: selective_scan(*a), fullgraph=True, backend=spy)
    expected = selective_scan(*arguments)
    for backend in ("auto", "torch", "auto"):
        with scan_backend(backend):
            torch.testing.assert_close(compiled(*arguments), expected, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(compiled(*arguments), expected, rtol=1e-3, atol=1e-2)
    assert True in used and False in used


@cases
def test_batches_of_gradients_equal_single_ones(operator, inputs) -> None:
    arguments = inputs(True)
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    y = first(operator(*arguments))
    weights = torch.randn(2, *y.shape)
    batch = torch.autograd.grad(y, leaves, weights, retain_graph=True, is_grads_batched=True)
    single = [torch.autograd.grad(y, leaves, weight, retain_graph=True) for weight in weights]
    for found, *expected in zip(batch, *single, strict=True):
        torch.testing.assert_close(found, torch.stack(expected))


@cases
def test_a_tensor_on_another_device_is_refused(operator, inputs) -> None:
    arguments = inputs()
    for place, tensor in enumerate(arguments):
        if isinstance(tensor, torch.Tensor):
            strayed = [*arguments[:place], tensor.to("meta"), *arguments[place + 1 :]]
            with pytest.raises(ValueError, match="expected all tensors on cpu, found one on meta; move them to one"):
                operator(*strayed)


def test_the_public_scan_refuses_a_tensor_on_another_device() -> None:
    *tensors, softplus = scan_inputs()
    for place in range(1, len(tensors)):  # where u is, the scan runs
        strayed = [t.to("meta") if i == place else t for i, t in enumerate(tensors)]
        with pytest.raises(ValueError, match="expected all tensors on cpu, found one on meta"):
            selective_scan(*strayed, softplus)
