"""Which pairs to read: data lists, splits without leaks, and a head phantom computed from formulas."""

from __future__ import annotations

from clinicalfmamba_nets.data.aanlib import aanlib_datalist
from clinicalfmamba_nets.data.datalists import folder_datalist, load_datalist, unique_cases
from clinicalfmamba_nets.data.phantom import head_phantom, nuclear_colors, write_phantom_pair
from clinicalfmamba_nets.data.splits import case_splits, random_splits

__all__ = [
    "aanlib_datalist",
    "case_splits",
    "folder_datalist",
    "head_phantom",
    "load_datalist",
    "nuclear_colors",
    "random_splits",
    "unique_cases",
    "write_phantom_pair",
]
