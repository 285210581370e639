"""Compiles the C++ kernels; standard library only, so that the installer can use it without torch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE_DIR = Path(__file__).resolve().parent / "src"
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
BUILD_SECONDS = 300


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


def sources() -> list[Path]:
    """The C++ files to compile, in a fixed order."""
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
    for path in sorted([*sources(), *SOURCE_DIR.glob("*.h*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(" ".join(_flags(variant)).encode())
    return digest.hexdigest()[:16]


def installed_library(variant: str) -> Path:
    """Where the installer puts the library of a variant (it may not be there)."""
    return LIBRARY_DIR / f"clinicalfmamba-{variant}-{source_key(variant)}.so"


def cache_dir() -> Path:
    """Folder for libraries built on first use: ``XDG_CACHE_HOME`` or ``~/.cache``, then ``clinicalfmamba``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else Path.home() / ".cache") / "clinicalfmamba"


def cached_library(variant: str, compiler: list[str]) -> Path:
    """Where the library of a variant lies in the cache (it may not be there)."""
    version = hashlib.sha256(f"{compiler} {_version(tuple(compiler))}".encode()).hexdigest()[:8]
    return cache_dir() / f"clinicalfmamba-{variant}-{source_key(variant)}-{version}.so"


def compile_library(variant: str, target: Path, compiler: list[str]) -> None:
    """Compile one variant into ``target``; the file appears whole or not at all.

    Args:
        variant: a name of :data:`VARIANTS`.
        target: the library to write; its folder is made.
        compiler: the command from :func:`find_compiler`.

    Raises:
        BuildError: the compiler failed, or the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(suffix=".so.partial", dir=target.parent)
    except OSError as error:
        raise BuildError(f"{target.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME") from None
    os.close(handle)
    try:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as files_at_once:
            objects = {path: str(Path(folder, path.name).with_suffix(".o")) for path in sources()}
            flags = [*compiler, *_flags(variant)]
            list(files_at_once.map(lambda path: _run([*flags, "-c", str(path), "-o", objects[path]]), objects))
            _run([*flags, "-shared", *_link_flags(), *objects.values(), "-o", partial, "-lpthread"])
        os.chmod(partial, 0o755)
        os.replace(partial, target)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{compiler[0]} could not be run: {error}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} exited with {done.returncode}: {(lines or ['no message'])[0].strip()}")


def build_into_cache(variant: str) -> Path:
    """The library of a variant in the user's cache, built now if it is not there yet.

    Two processes may call this at once: the second waits for the first where the system has file locks, and
    in any case each sees a whole file.

    Raises:
        BuildError: no compiler, or it failed.
    """
    compiler = find_compiler()
    target = cached_library(variant, compiler)
    if not target.exists():
        with _lock(target.with_suffix(".lock")):
            if not target.exists():
                compile_library(variant, target, compiler)
    return target


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    except ImportError:
        yield
    except OSError as error:
        raise BuildError(f"{path.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME") from None


def _flags(variant: str) -> list[str]:
    width, isa = VARIANTS[variant]
    return [*COMMON_FLAGS, *isa.split(), f"-DCFM_WIDTH={width}"]


def _link_flags() -> list[str]:
    return ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
