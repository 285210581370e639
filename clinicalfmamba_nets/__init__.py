"""ClinicalFMamba for MONAI: networks, losses, metrics, transforms and tools to fuse pairs of medical images."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "fuse"]

_SUBPACKAGES = (
    "blocks",
    "data",
    "engine",
    "functional",
    "io",
    "losses",
    "metrics",
    "nets",
    "ops",
    "spatial",
    "transforms",
)


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import clinicalfmamba_nets` alone takes milliseconds and no torch.
    if name == "fuse":
        from clinicalfmamba_nets.engine.fusion.pipeline import fuse

        return fuse
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBPACKAGES]
