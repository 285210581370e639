"""Losses that train a fusion network without a ground truth."""

from __future__ import annotations

from clinicalfmamba_nets.losses.fusion import FusionLoss

__all__ = ["FusionLoss"]
