"""Image arithmetic shared by losses, metrics and transforms: gradients, windows, histograms, colour. Torch only."""

from __future__ import annotations
