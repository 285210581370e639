"""MONAI without what a fusion does not use: for the program alone, where each call pays for every import anew.

`import monai` loads all of MONAI twice and every optional library that it finds (ignite, scipy, scikit-image, ITK,
matplotlib, ...): 3.7 s of CPU for a fusion that needs 60 of its 430 modules, which load in 0.3 s. Here the packages of
MONAI hand out their names when they are asked for, and the optional libraries are left out while its core loads. The
modules, and so the results, are MONAI's own. A library leaves its caller's process alone: nothing here is called but
by the command line's `program`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

# Libraries that MONAI uses where it finds them; a fusion by the shipped bundles needs none of them through MONAI.
OPTIONAL = (
    "cucim", "cupy", "cv2", "einops", "fire", "gdown", "h5py", "huggingface_hub", "ignite", "itk", "jsonschema",
    "kvikio", "lmdb", "matplotlib", "mlflow", "nibabel", "nrrd", "onnx", "onnxruntime", "openslide", "pandas",
    "polygraphy", "psutil", "pydicom", "pynvml", "requests", "scipy", "skimage", "sklearn", "tensorboard", "tensorrt",
    "tifffile", "torchvision", "tqdm", "transformers", "yaml", "zarr",
)  # fmt: skip
# What a fusion uses of MONAI.
CORE = (
    "monai.data.meta_tensor", "monai.transforms.compose", "monai.transforms.utility.dictionary",
    "monai.transforms.io.dictionary", "monai.inferers.inferer", "monai.inferers.utils", "monai.bundle.config_parser",
    "monai.metrics.metric", "monai.metrics.utils",
)  # fmt: skip


def load_on_demand() -> bool:
    """Let the next `import monai` load what a fusion needs; return whether that was arranged.

    It is not where MONAI is loaded already, or where CLINICALFMAMBA_BUNDLES names bundles of the user's own, which may
    use any part of MONAI.
    """
    if "monai" in sys.modules or os.environ.get("CLINICALFMAMBA_BUNDLES"):
        return False
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
    return True


def load_transforms(texts: Iterable[str]) -> None:
    """Load the transforms of MONAI that configurations name without their module: MONAI looks among what is loaded.

    Args:
        texts: the configurations, as JSON.
    """
    for finder in [found for found in sys.meta_path if isinstance(found, _Finder)]:
        transforms = importlib.import_module("monai.transforms")
        with finder.without_optional():
            for name in sorted({name for text in texts for name in re.findall(r'"_target_":\s*"(\w+)"', text)}):
                with contextlib.suppress(ImportError):
                    getattr(transforms, name, None)


class _Finder:
    """Finds the packages of MONAI for `_Loader`; while its core loads, finds no optional library."""

    def __init__(self) -> None:
        self.leaving_out = False

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Return the spec of a package of MONAI, None for what others find."""
        if self.leaving_out and name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"{name} is left out while MONAI loads", name=name)
        if name.partition(".")[0] != "monai":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin and os.path.basename(spec.origin) == "__init__.py":
            spec.loader = _Loader(name, spec.origin, self)
        return spec

    @contextlib.contextmanager
    def without_optional(self) -> Iterator[None]:
        """Leave the optional libraries out for a while."""
        self.leaving_out = True
        try:
            yield
        finally:
            self.leaving_out = False


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a package of MONAI as a table of names; a package that cannot be loaded so is loaded as it is."""

    def __init__(self, name: str, path: str, finder: _Finder) -> None:
        super().__init__(name, path)
        self.finder = finder

    def exec_module(self, module: ModuleType) -> None:
        """Give a package its names, and MONAI itself its core."""
        module.__getattr__ = _names(module, ast.parse(self.get_data(self.path)))  # type: ignore[method-assign]
        if module.__name__ != "monai":
            return
        try:
            with self.finder.without_optional():
                version = importlib.import_module("monai._version").get_versions()
                module.__version__ = version.get("version", "0+unknown")  # type: ignore[attr-defined]
                for name in CORE:
                    importlib.import_module(name)
        except Exception:  # another MONAI than this was written for: all of it, as always
            sys.meta_path.remove(self.finder)  # type: ignore[arg-type]
            for name in [name for name in sys.modules if name.startswith("monai.")]:
                del sys.modules[name]
            del module.__getattr__
            super().exec_module(module)


def _names(package: ModuleType, source: ast.Module) -> Any:
    """Return what looks up a name of a package: the modules that its source imports names from are told by it."""
    homes: dict[str, tuple[str, str]] = {}
    whole: list[str] = []
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            base = "." * node.level + node.module
            whole += [base for alias in node.names if alias.name == "*"]
            homes |= {alias.asname or alias.name: (base, alias.name) for alias in node.names if alias.name != "*"}

    def look_up(name: str) -> Any:
        if name in homes:
            base, own = homes[name]
            value = getattr(importlib.import_module(base, package.__name__), own)
            setattr(package, name, value)
            return value
        if not name.startswith("__"):
            with contextlib.suppress(ModuleNotFoundError):
                return importlib.import_module(f"{package.__name__}.{name}")
            for base in whole:
                module = importlib.import_module(base, package.__name__)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    return look_up
