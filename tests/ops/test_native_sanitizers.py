"""The kernels under the address, undefined-behaviour and thread sanitizers of the compiler."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch

from clinicalfmamba_nets.ops.native import build, loader

DRIVER = Path(__file__).with_name("native_driver.cpp")


def runnable_variants() -> list[str]:
    """Variants that this CPU can run, the widest first."""
    variants = build.variants_of_machine(platform.machine())
    best = loader.variant_of_cpu(torch.backends.cpu.get_cpu_capability(), platform.machine())
    return list(variants[variants.index(best) :])


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
@pytest.mark.parametrize("variant", runnable_variants())
def test_no_sanitizer_complains(variant: str, sanitizers: str, tmp_path: Path) -> None:
    try:
        compiler = build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    width, isa = build.VARIANTS[variant]
    flags = ["-std=c++17", "-O1", "-g", "-ffp-contract=fast", *isa.split(), f"-DCFM_WIDTH={width}", "-w"]
    instrument = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{build.SOURCE_DIR}"]
    program = tmp_path / "driver"
    command = [*compiler, *flags, *instrument, *map(str, build.sources()), str(DRIVER), "-o", str(program), "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "sanitize" in built.stderr + built.stdout or "cannot find -l" in built.stderr:
        pytest.skip("the compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr[-2000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, env={**os.environ, "LD_PRELOAD": ""})
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]
