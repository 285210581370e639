"""The choice between mamba-ssm, Triton and the torch form for CUDA tensors, told and made without a GPU."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from clinicalfmamba_nets.ops import backend_report, cuda, triton_loader
from clinicalfmamba_nets.ops.backends import resolve_backend
from clinicalfmamba_nets.ops.reference import selective_scan_reference
from clinicalfmamba_nets.ops.triton_scan import selective_scan_triton

INTERFACE = "mamba_ssm.ops.selective_scan_interface"
KERNELS = ("clinicalfmamba_nets.ops.triton_kernels", "clinicalfmamba_nets.ops.triton_gradients")


@pytest.fixture
def machine(monkeypatch):
    """A machine that has a CUDA device by its own account; nothing remembered before or after."""
    for module in (cuda, triton_loader):
        monkeypatch.setattr(module, "_state", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")
    return monkeypatch


def _install_mamba_ssm(monkeypatch, calls: list) -> None:
    def selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state):
        calls.append((u, delta, A, B, C, D, z, delta_bias, return_last_state))
        tensors = [None if x is None else x.double() for x in (u, delta, A, B, C, D, z, delta_bias)]
        y, last = selective_scan_reference(*tensors, delta_softplus)
        return y.to(u.dtype), last.float()

    module = ModuleType(INTERFACE)
    module.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, INTERFACE, module)


def test_mamba_ssm_comes_first_and_gets_dense_tensors_of_one_type(machine) -> None:
    calls: list = []
    _install_mamba_ssm(machine, calls)
    assert cuda.load()[1] == "mamba-ssm"
    g = torch.Generator().manual_seed(0)
    u = torch.randn(2, 5, 2, 3, generator=g).permute(0, 2, 3, 1).half()  # (B, G, D / G, L), tokens outermost
    delta = torch.rand(2, 2, 3, 5, generator=g)
    A, D, bias = -torch.rand(6, 4, generator=g).half(), torch.rand(6, generator=g), torch.rand(6, generator=g)
    B, C = torch.randn(2, 2, 2, 4, 5, generator=g)
    y, last = cuda.selective_scan_cuda(u, delta, A, B, C, D, None, bias, True)
    flat = [x.double() for x in (u.flatten(1, 2), delta.flatten(1, 2), A, B, C, D)]
    truth = selective_scan_reference(*flat, None, bias.double(), True)[0]
    assert y.shape == u.shape and last.shape == (2, 6, 4)
    torch.testing.assert_close(y.flatten(1, 2).double(), truth, rtol=2e-2, atol=2e-2)
    *tensors, last_wanted = calls[0]
    assert last_wanted is True and all(x is None or x.is_contiguous() for x in tensors)
    assert {x.dtype for x in (tensors[i] for i in (0, 1, 3, 4))} == {torch.float16}
    assert {x.dtype for x in (tensors[i] for i in (2, 5, 7))} == {torch.float32}


def test_triton_comes_second_and_the_report_says_why(machine) -> None:
    machine.setitem(sys.modules, "mamba_ssm", None)
    machine.setattr(triton_loader, "load", lambda: (object(), "Triton kernels"))
    assert cuda.load()[0] is selective_scan_triton
    row = backend_report()["cuda"]
    assert row["available"] and row["active"]
    assert str(row["reason"]).startswith("Triton kernels, because mamba-ssm cannot be imported (ModuleNotFoundError")
    tensor = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    assert resolve_backend(tensor, 8) == "cuda"
    tensor.dtype = torch.float64
    assert resolve_backend(tensor, 8) == "torch"
    with pytest.raises(RuntimeError, match="it takes float32, float16 and bfloat16, not torch.float64"):
        resolve_backend(tensor, 8, "cuda")


def test_without_both_the_torch_form_remains(machine) -> None:
    for name in ("mamba_ssm", "triton", "triton.language"):
        machine.setitem(sys.modules, name, None)
    for name in KERNELS:
        machine.delitem(sys.modules, name, raising=False)
    function, reason = cuda.load()
    assert function is None
    assert "mamba-ssm cannot be imported" in reason and "Triton cannot be imported (ModuleNotFoundError" in reason
    assert resolve_backend(SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32), 8) == "torch"
    x = torch.zeros(1, 2, 3)
    with pytest.raises(RuntimeError, match="install triton or mamba-ssm on a machine with CUDA"):
        cuda.selective_scan_cuda(x, x, torch.zeros(2, 4), x, x, None, None, None, True)


def test_a_kernel_that_cannot_be_compiled_is_no_reason_to_fail(machine) -> None:
    class Broken:
        def __getitem__(self, grid):
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    for name in KERNELS:
        module = ModuleType(name)
        for kernel in ("carry", "local_states", "outputs", "gradients", "local_adjoints"):
            setattr(module, kernel, Broken())
        machine.setitem(sys.modules, name, module)
    machine.setattr(triton_loader, "interpreting", lambda: False)
    found = triton_loader.load()
    assert found == (
        None,
        "Triton cannot compile here (RuntimeError: Failed to find C compiler. Please specify via CC)",
    )
    with pytest.raises(RuntimeError, match="the Triton scan is not available: Triton cannot compile here"):
        triton_loader.required()


def test_cpu_tensors_are_refused_outside_the_interpreter(machine) -> None:
    machine.setattr("clinicalfmamba_nets.ops.triton_scan.interpreting", lambda: False)
    machine.setattr("clinicalfmamba_nets.ops.triton_scan.required", lambda: None)
    x = torch.zeros(1, 4, 3)
    with pytest.raises(RuntimeError, match="takes CUDA tensors, found cpu"):
        selective_scan_triton(x, x, torch.zeros(4, 4), x, x)


def test_importing_the_operations_imports_no_kernel() -> None:
    code = f"import clinicalfmamba_nets.ops, sys; print([n for n in {KERNELS!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
