"""ClinicalFMamba for MONAI: networks, losses, metrics, transforms and tools to fuse pairs of medical images."""

from __future__ import annotations

__version__ = "0.1.0"
