"""The native kernels are found, built or done without, and nothing fails for want of a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clinicalfmamba_nets.ops.native import build, loader

HAS_COMPILER = bool(os.environ.get("CXX") or any(map(shutil.which, ("g++", "clang++", "c++"))))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler on PATH")

REPORT = "from clinicalfmamba_nets.ops import native; print(native.available(), native.reason())"
SCAN = """
import torch, warnings
from clinicalfmamba_nets.ops import selective_scan
x = torch.rand(1, 4, 10)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        y = selective_scan(x, x, -torch.ones(4, 8), torch.rand(1, 8, 10), torch.rand(1, 8, 10))
print(y.isfinite().all().item(), sum("native scan is not built" in str(w.message) for w in caught))
"""
ACCURACY = """
import torch
from clinicalfmamba_nets.ops import gated_norm, permuted_conv1d_silu, permuted_selective_scan
from clinicalfmamba_nets.ops import scan_backend, selective_scan
torch.manual_seed(0)
def error(function, *tensors):
    results = []
    for backend, dtype in (("native", torch.float32), ("reference", torch.float64)):
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        with scan_backend(backend):
            y = function(*leaves)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(*results))
def scan(u, delta, A, B, C, z):
    return selective_scan(u, delta, A, B, C, z=z, delta_softplus=True)
order = torch.stack([torch.arange(21), torch.randperm(21)])
def layer(x, weight, bias, x_proj, dt_weight, A, D, z, scale, offset):
    u, projected = permuted_conv1d_silu(x, weight, bias, x_proj, order)
    return gated_norm(permuted_selective_scan(u, projected, dt_weight, A, D, D - 2, order), z, scale, offset, 2.0)
B, C = torch.randn(2, 2, 8, 21)
print(max(
    error(scan, *torch.randn(2, 2, 37, 21), -torch.rand(37, 8), B, C, torch.randn(2, 37, 21)),
    error(layer, torch.randn(1, 2, 21, 48), torch.randn(1, 2, 48, 4), torch.randn(1, 2, 48),
          torch.randn(1, 2, 19, 48) / 7,
          torch.randn(1, 2, 48, 3), -torch.rand(1, 2, 48, 8), torch.randn(1, 2, 48), torch.randn(1, 2, 21, 48),
          *torch.randn(2, 1, 48)),
))
"""


def python(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter whose kernels come from an own cache folder, never from the installed copy."""
    full = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=full, timeout=300)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "LIBRARY_DIR", tmp_path / "lib")


@pytest.mark.hour
@needs_compiler
def test_two_processes_that_build_at_once_both_get_a_whole_library(tmp_path: Path) -> None:
    code = (
        "from clinicalfmamba_nets.ops.native import build; import ctypes;"
        "path = build.build_into_cache(build.variants_of_machine(__import__('platform').machine())[-1]);"
        "print(ctypes.CDLL(str(path)).cfm_tile_tokens())"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=300)[0].strip() for p in processes] == ["16", "16"]
    assert len(list((tmp_path / "clinicalfmamba").glob("*.so"))) == 2  # for torch, and for ONNX Runtime
    assert not list((tmp_path / "clinicalfmamba").glob("*.partial"))


@pytest.mark.parametrize("environment", [{"PATH": ""}, {"CXX": "nonexistent-compiler"}], ids=["no PATH", "wrong CXX"])
def test_without_a_compiler_the_reason_is_told(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_installed: None
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    library, reason = loader._load()
    assert library is None and reason.startswith("no C++ compiler")


def test_without_kernels_scans_run_with_one_warning(tmp_path: Path) -> None:
    done = python(SCAN, tmp_path, CLINICALFMAMBA_NATIVE="0")
    assert done.stdout.split() == ["True", "1"], done.stderr


def test_the_switch_turns_the_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINICALFMAMBA_NATIVE", "0")
    assert loader._load() == (None, "switched off by CLINICALFMAMBA_NATIVE")


@needs_compiler
def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "broken.cpp").write_text("int main( {")
    monkeypatch.setattr(build, "SOURCE_DIR", source)
    target = tmp_path / "out" / "library.so"
    with pytest.raises(build.BuildError, match=r"exited with 1: .*broken\.cpp:1:.*error"):
        build.compile_library("generic", target, build.find_compiler())
    assert list(target.parent.iterdir()) == []


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_installed: None
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    library, reason = loader._load()
    assert library is None
    assert str(blocked) in reason and "set XDG_CACHE_HOME" in reason


def test_the_key_follows_source_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {build.source_key(variant) for variant in build.VARIANTS}
    assert len(keys) == len(build.VARIANTS)
    shutil.copytree(build.SOURCE_DIR, tmp_path / "src")
    before = build.source_key("generic")
    monkeypatch.setattr(build, "SOURCE_DIR", tmp_path / "src")
    assert build.source_key("generic") == before
    with open(tmp_path / "src" / "abi.h", "a") as header:
        header.write("\n")
    assert build.source_key("generic") != before


@pytest.mark.parametrize(
    ("capability", "machine", "expected"),
    [
        ("AVX512", "x86_64", "x86-64-v4"),
        ("AVX2", "x86_64", "x86-64-v3"),
        ("DEFAULT", "x86_64", "x86-64-v2"),
        ("SVE256", "aarch64", "generic"),
        ("DEFAULT", "arm64", "generic"),
    ],
)
def test_the_variant_follows_the_cpu(capability: str, machine: str, expected: str) -> None:
    assert loader.variant_of_cpu(capability, machine) == expected


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_narrower_vectors_are_as_accurate(capability: str, tmp_path: Path) -> None:
    done = python(f"{REPORT}\n{ACCURACY}", tmp_path, ATEN_CPU_CAPABILITY=capability)
    first, error = done.stdout.splitlines()
    assert first.startswith("True") and "512" not in first
    assert float(error) < 5e-6


@pytest.mark.slow
@needs_compiler
def test_the_vectors_of_other_machines_are_as_accurate(tmp_path: Path) -> None:
    """The generic variant, the one for ARM, is written without any intrinsic and so runs here too."""
    code = "import platform; platform.machine = lambda: 'aarch64'\n"
    done = python(f"{code}{REPORT}\n{ACCURACY}", tmp_path)
    first, error = done.stdout.splitlines()
    assert first.startswith("True generic, 128-bit vectors"), done.stderr
    assert float(error) < 5e-6


@pytest.mark.hour
@needs_compiler
def test_a_killed_build_leaves_nothing(tmp_path: Path) -> None:
    code = "from clinicalfmamba_nets.ops.native import build; build.build_into_cache('generic')"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    cache, end = tmp_path / "clinicalfmamba", time.monotonic() + 120
    while not list(cache.glob(".building-*/*")) and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while list(cache.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(cache.iterdir()) == []


@pytest.mark.slow
@needs_compiler
def test_a_cached_library_serves_without_a_compiler_and_cleared_of_older_leftovers(tmp_path: Path) -> None:
    cache = tmp_path / "clinicalfmamba"
    (cache / ".building-old").mkdir(parents=True)
    (cache / ".building-old" / "scan.o").write_text("half an object")
    (cache / "tmp1.so.partial").write_text("half a library")
    assert python(REPORT, tmp_path).stdout.startswith("True")
    assert [path.suffix for path in cache.iterdir()] == [".so", ".so"]  # for torch, and for ONNX Runtime
    cache.chmod(0o555)
    for environment in ({"PATH": ""}, {"CXX": "nonexistent-compiler"}):
        done = python(REPORT, tmp_path, **environment)
        assert done.stdout.startswith("True") and "built earlier" in done.stdout, done.stdout + done.stderr
    cache.chmod(0o755)


def test_without_a_home_folder_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, not_installed: None) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    library, reason = loader._load()
    assert library is None and ("XDG_CACHE_HOME" in reason or reason.startswith("no C++ compiler"))


@pytest.mark.parametrize("cached", [False, True])
def test_a_build_is_told_only_where_one_is_made(
    cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, not_installed: None
) -> None:
    library = tmp_path / "kernels.so"
    if cached:
        library.touch()
    monkeypatch.setattr(build, "find_compiler", lambda: ["c++"])
    monkeypatch.setattr(build, "cached_library", lambda variant, compiler: library)
    monkeypatch.setattr(build, "build_into_cache", lambda variant: library)
    with caplog.at_level("INFO"):
        assert loader._find("x86-64-v3")[0] == library
    assert ("building the native kernels" in caplog.text) == (not cached)
