"""Every Triton kernel compiled to machine code for CUDA devices; needs Triton, but no GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

# In a process of its own: with TRITON_INTERPRET=1 there are no kernels to compile.
PROGRAM = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from clinicalfmamba_nets.ops import triton_gradients, triton_kernels

states, channels, kind, absent = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4].split(",")
constants = {"SOFTPLUS": True, "TOKENS": 32, "CHANNELS": channels, "STATES": states, "REVERSE": True, "BLOCK": 128}
typed = {"u", "delta", "z", "y", "dy", "du", "ddelta", "dz", "B", "C"}
numbers = {"item", "items", "batches", "length", "width", "groups", "chunks", "N", "size"}
numbers |= {first + second for first in "up" for second in "bgwnl"}
for kernel in (
    triton_kernels.local_states, triton_kernels.carry, triton_kernels.outputs,
    triton_gradients.local_adjoints, triton_gradients.gradients,
):
    fixed = {name: constants.get(name) for name in kernel.arg_names if name in constants or name in absent}
    signature = {
        name: "constexpr" if name in fixed else "i32" if name in numbers else kind if name in typed else "*fp32"
        for name in kernel.arg_names
    }
    for capability in (80, 90):
        source = ASTSource(kernel, signature, fixed)
        options = {"num_warps": max(1, min(8, channels * states // 256)), "num_stages": 1}
        made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert len(made.asm["cubin"]) > 1000
        print(kernel.__name__, capability)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    ("states", "channels", "kind", "absent"),
    [(8, 16, "*fp32", "z,dz,last"), (16, 16, "*fp16", "first"), (4, 1, "*bf16", "D,z,dz,bias,dD,dbias,first")],
)
def test_kernels_compile_to_machine_code(states, channels, kind, absent, tmp_path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM, str(states), str(channels), kind, absent]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 10
