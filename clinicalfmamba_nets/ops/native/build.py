"""Compiles the C++ kernels; standard library only, so that the installer can use it without torch.

On first use a process of its own compiles (this file, run as a program): it ends, and takes what it has begun with it,
when the process that waits for it ends in whatever way.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOURCE_DIR = Path(__file__).resolve().parent / "src"  # the kernels; in its folder hosts what others load them by
LIBRARY_DIR = Path(__file__).resolve().parent / "lib"  # filled at install time

COMMON_FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),  # never -ffast-math: it would hide NaN
    *("-Wno-maybe-uninitialized", "-Wno-unknown-warning-option"),
)
# Vector width in floats and the instruction sets of each variant, best first.
VARIANTS: dict[str, tuple[int, str]] = {
    "x86-64-v4": (
        16,
        "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512cd -mfma -mavx2 -mbmi -mbmi2 -mprefer-vector-width=512",
    ),
    "x86-64-v3": (8, "-mavx2 -mfma -mbmi -mbmi2"),
    "x86-64-v2": (4, "-msse4.2"),
    "generic": (4, ""),
}
# What an installed library holds: every variant of a machine type, of which it chooses as it is loaded.
WHOLE = {"x86-64": ("x86-64-v4", "x86-64-v3", "x86-64-v2")}
# Names that each variant has as its own; see src/hosts/dispatch.cpp.
OWN_NAMES = (
    *("cfm", "cfm_scan_forward", "cfm_scan_backward", "cfm_conv_forward", "cfm_conv_backward", "cfm_gate_forward"),
    *("cfm_gate_backward", "cfm_maps_forward", "cfm_mix_refine", "cfm_mix_slope", "cfm_vector_width"),
    *("cfm_tile_tokens", "cfm_peak_fma", "cfm_exp_rate", "cfm_triad"),
)
ONCE = "parallel.cpp"  # compiled once for all variants
HOSTS = {"torch": "torch_ops.cpp", "onnxruntime": "onnxruntime_ops.cpp"}
BUILD_SECONDS = 300
WORKPLACE = ".building-"  # folders with this start hold what a build has not finished


class BuildError(RuntimeError):
    """The kernels could not be compiled; the message says why in one line."""


def variants_of_machine(machine: str) -> tuple[str, ...]:
    """Variants that can be compiled for a machine type.

    Args:
        machine: as :func:`platform.machine` tells it, such as ``x86_64`` or ``aarch64``.

    Returns:
        Names of :data:`VARIANTS`, best first.
    """
    if machine.lower() in ("x86_64", "amd64"):
        return ("x86-64-v4", "x86-64-v3", "x86-64-v2")
    return ("generic",)


def whole_variant(machine: str) -> str:
    """Name of the library that holds all variants of a machine type."""
    return "x86-64" if len(variants_of_machine(machine)) > 1 else "generic"


def sources() -> list[Path]:
    """The C++ files of the kernels, in a fixed order."""
    return sorted(SOURCE_DIR.glob("*.cpp"))


def find_compiler() -> list[str]:
    """Command of the C++ compiler: ``CXX`` from the environment, else g++, clang++ or c++ from ``PATH``.

    Returns:
        The command, with the arguments that ``CXX`` may hold.

    Raises:
        BuildError: there is none.
    """
    asked = os.environ.get("CXX", "").strip()
    for command in [asked] if asked else ["g++", "clang++", "c++"]:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    found = f"CXX={asked} is not there" if asked else "none of g++, clang++, c++ on PATH"
    raise BuildError(f"no C++ compiler: {found}")


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    try:
        out = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{' '.join(compiler)} --version failed: {error}") from None
    return out.stdout.splitlines()[0] if out.stdout else ""


def source_key(variant: str) -> str:
    """Hash of everything that decides what a compiler makes of the sources: text and flags."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCE_DIR.rglob("*.cpp"), *SOURCE_DIR.rglob("*.h*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for part in WHOLE.get(variant, (variant,)):
        digest.update(" ".join(_flags(part)).encode())
    return digest.hexdigest()[:16]


def installed_library(variant: str) -> Path:
    """Where the installer puts the library of a variant (it may not be there)."""
    return LIBRARY_DIR / f"clinicalfmamba-{variant}-{source_key(variant)}.so"


def cache_dir() -> Path:
    """Folder for libraries built on first use: ``XDG_CACHE_HOME`` or ``~/.cache``, then ``clinicalfmamba``.

    Raises:
        BuildError: the variable is not set and the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return Path(base if os.path.isabs(base) else Path.home() / ".cache") / "clinicalfmamba"
    except RuntimeError:
        raise BuildError("no home folder to keep the kernels in; set XDG_CACHE_HOME") from None


def cached_library(variant: str, compiler: list[str]) -> Path:
    """Where the library of a variant lies in the cache (it may not be there)."""
    version = hashlib.sha256(f"{compiler} {_version(tuple(compiler))}".encode()).hexdigest()[:8]
    return cache_dir() / f"clinicalfmamba-{variant}-{source_key(variant)}-{version}.so"


def library_of_any_compiler(variant: str) -> Path | None:
    """The newest library of a variant in the cache, whichever compiler made it of these sources; None without one."""
    with contextlib.suppress(BuildError, OSError):
        found = cache_dir().glob(f"clinicalfmamba-{variant}-{source_key(variant)}-*.so")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None


def onnxruntime_library(library: Path) -> Path:
    """The library for ONNX Runtime beside the one for torch, built with it."""
    return library.with_name(library.name.replace("clinicalfmamba-", "clinicalfmamba-onnxruntime-", 1))


def compile_library(variant: str, target: Path, compiler: list[str]) -> None:
    """Compile a library for torch, and beside it the one for ONNX Runtime; each appears whole or not at all.

    Args:
        variant: a name of :data:`VARIANTS` or :data:`WHOLE`.
        target: the library to write, ``clinicalfmamba-...``; its folder is made.
        compiler: the command from :func:`find_compiler`.

    Raises:
        BuildError: the compiler failed, or the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=WORKPLACE, dir=target.parent)
    except OSError as error:
        raise _not_writable(target.parent, error) from None
    parts = WHOLE.get(variant, (variant,))
    try:
        objects = _compile_objects(parts, folder, compiler)
        hosts = {host: Path(folder, f"{host}.so") for host in reversed(HOSTS)}
        for host, library in hosts.items():
            others = [made for name, made in objects.items() if name not in HOSTS.values() or name == HOSTS[host]]
            _link(others, library, compiler, folder, needs_torch=host == "torch")
            os.chmod(library, 0o755)
        os.replace(hosts["onnxruntime"], onnxruntime_library(target))
        os.replace(hosts["torch"], target)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{compiler[0]} could not be run: {error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile_objects(parts: Sequence[str], folder: str, compiler: list[str]) -> dict[str, str]:
    """Compile all files, the kernels once for each variant; returns the object files by what they were made of."""
    named = f"-DCFM_VARIANTS={' '.join(f'VARIANT({_word(part)})' for part in parts)}"
    shared = [path for path in (*sources(), *sorted((SOURCE_DIR / "hosts").glob("*.cpp"))) if _is_shared(path)]
    jobs = {path.name: [*COMMON_FLAGS, named, str(path)] for path in shared}
    for part in parts:
        own = [f"-D{name}={name}_{_word(part)}" for name in OWN_NAMES]
        files = [path for path in sources() if not _is_shared(path)]
        jobs |= {f"{part} {path.name}": [*_flags(part), *own, str(path)] for path in files}
    objects = {name: str(Path(folder, f"{number}.o")) for number, name in enumerate(jobs)}
    with ThreadPoolExecutor(os.cpu_count()) as files_at_once:
        commands = [[*compiler, *words, "-c", "-o", objects[name]] for name, words in jobs.items()]
        list(files_at_once.map(lambda command: _run(command, folder), commands))
    return objects


def _is_shared(path: Path) -> bool:
    return path.name == ONCE or path.parent.name == "hosts"


def _word(variant: str) -> str:
    return variant.replace("-", "_")


def _link(objects: Sequence[str], library: Path, compiler: list[str], folder: str, needs_torch: bool) -> None:
    """Link a library; that for torch asks for torch's by name, of which the build needs no more than the name."""
    words = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    if needs_torch and not words:
        empty, named = Path(folder, "empty.cpp"), Path(folder, "libtorch_cpu.so")
        empty.touch()
        _run([*compiler, "-shared", "-nostdlib", f"-Wl,-soname,{named.name}", str(empty), "-o", str(named)], folder)
        words = ["-Wl,--no-as-needed", str(named)]
    libraries = [*words, "-lpthread", "-ldl"] if sys.platform != "darwin" else words
    _run([*compiler, "-shared", *objects, "-o", str(library), *libraries], folder)


def _run(command: list[str], folder: str) -> None:
    """Run the compiler, whose own temporary files go to the folder too."""
    environment = {**os.environ, "TMPDIR": folder}
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} exited with {done.returncode}: {(lines or ['no message'])[0].strip()}")


def _not_writable(folder: Path, error: OSError) -> BuildError:
    return BuildError(f"{folder} cannot be written ({error.strerror}); set XDG_CACHE_HOME")


def build_into_cache(variant: str) -> Path:
    """The library of a variant in the user's cache, built now if it is not there yet.

    Two processes may call this at once: the second waits for the first where the system has file locks, and
    in any case each sees a whole file. A build that is killed leaves nothing, or what the next build removes.

    Raises:
        BuildError: no compiler, or it failed.
    """
    compiler = find_compiler()
    target = cached_library(variant, compiler)
    if target.exists():
        return target
    if not sys.executable or not Path(__file__).is_file():  # a Python within another program
        _build_alone(variant, target, compiler)
        return target
    command = [sys.executable, "-I", __file__, variant, str(target), *compiler]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as builder:
            said = builder.stderr.read().splitlines() if builder.stderr else []
            code = builder.wait()
    except OSError as error:
        raise BuildError(f"{sys.executable} could not be run: {error}") from None
    if code:
        raise BuildError(said[-1] if said else f"the build ended with {code}")
    return target


def _build_alone(variant: str, target: Path, compiler: list[str]) -> None:
    """Build unless another process has just done so; what killed builds have left is removed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(target.parent, error) from None
    with _only_builder(target.parent) as alone:
        for left in target.parent.iterdir() if alone else ():
            if left.name.startswith(WORKPLACE):
                shutil.rmtree(left, ignore_errors=True)
            elif left.suffix in (".partial", ".lock"):  # of earlier versions
                left.unlink(missing_ok=True)
        if not target.exists():
            compile_library(variant, target, compiler)


@contextlib.contextmanager
def _only_builder(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder; gives False where the system has none."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        yield _locked(handle, fcntl, folder)
    finally:
        os.close(handle)


def _locked(handle: int, fcntl: Any, folder: Path) -> bool:
    end = time.monotonic() + 2 * BUILD_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # a network file system without locks
            return False
    raise BuildError(f"another process has been building in {folder} for {2 * BUILD_SECONDS} s")


def _flags(variant: str) -> list[str]:
    width, isa = VARIANTS[variant]
    return [*COMMON_FLAGS, *isa.split(), f"-DCFM_WIDTH={width}"]


def _end_with_caller() -> None:
    """Wait for the end of the standard input, which the caller holds open; then end the compilers."""
    os.read(0, 1)  # not sys.stdin: the interpreter could not close it while this thread waits
    os.killpg(os.getpgrp(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    """Build one library: variant, target, and the words of the compiler's command."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # for the compilers; this process then clears up and ends
    threading.Thread(target=_end_with_caller, daemon=True).start()
    variant, target, *compiler = arguments
    try:
        _build_alone(variant, Path(target), compiler)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
