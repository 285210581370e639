"""Compiles the optional C++ kernels while a wheel is built; everything else about the project is in pyproject.toml.

Without a C++ compiler, or with CLINICALFMAMBA_NATIVE=0, the wheel is a pure one and nothing fails. An editable
install leaves the compiling to the first use.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path
from types import ModuleType

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path("clinicalfmamba_nets", "ops", "native")


def load_builder() -> ModuleType:
    """The compiling module, by its path: importing the package would need torch."""
    spec = importlib.util.spec_from_file_location("native_build", Path(__file__).parent / NATIVE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()
BUILDER.BUILD_SECONDS = 3600  # for one file: a wheel is built once, and beside other work


def find_compiler() -> list[str]:
    """Command of the compiler; empty when there is none or the kernels are switched off."""
    if os.environ.get("CLINICALFMAMBA_NATIVE", "").lower() in ("0", "off", "no") or os.name != "posix":
        return []
    try:
        return BUILDER.find_compiler()
    except BUILDER.BuildError:
        return []


COMPILER = find_compiler()


class BuildWithKernels(build_py):
    """Copies the package, then adds to the copy the libraries for torch and for ONNX Runtime, for every processor.

    The folder is emptied first, for setuptools keeps what an earlier build left in it.
    """

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "clinicalfmamba_nets"), ignore_errors=True)
        super().run()
        if not COMPILER or self.editable_mode:
            return
        variant = BUILDER.whole_variant(platform.machine())
        folder = Path(self.build_lib, NATIVE, "lib")
        try:
            BUILDER.compile_library(variant, folder / BUILDER.installed_library(variant).name, COMPILER)
        except BUILDER.BuildError as error:
            print(f"native kernels left out: {error}")


class PlatformDistribution(Distribution):
    """Goes into a platform wheel when there is something to compile."""

    def has_ext_modules(self) -> bool:
        return bool(COMPILER)


class WheelForAnyPython(bdist_wheel):
    """Tags the wheel for the platform only: the libraries know nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, system = super().get_tag()
        return "py3", "none", system


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelForAnyPython})
