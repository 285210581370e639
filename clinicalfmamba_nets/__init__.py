"""ClinicalFMamba for MONAI: networks, losses, metrics, transforms and tools to fuse pairs of medical images."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"
__all__ = ["Fuser", "__version__", "fuse"]
# Names that are loaded on first use, and the modules that they lie in.
_LAZY = {
    "Fuser": "clinicalfmamba_nets.engine.fusion.fuser",
    "fuse": "clinicalfmamba_nets.engine.fusion.fuser",
    "pretrained": "clinicalfmamba_nets.engine.run.weights",
}

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
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_SUBPACKAGES]
