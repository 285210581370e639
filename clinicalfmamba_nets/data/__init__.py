"""Which pairs to read: data lists, splits without leaks, and a head phantom computed from formulas."""

from __future__ import annotations

from clinicalfmamba_nets.data.aanlib import aanlib_datalist
from clinicalfmamba_nets.data.brats import brats_datalist
from clinicalfmamba_nets.data.brats_phantoms import glioma_phantom, ideal_auc, write_brats_phantoms
from clinicalfmamba_nets.data.datalists import folder_datalist, load_datalist, two_folders_datalist, unique_cases
from clinicalfmamba_nets.data.formula_pairs import formula_pair, write_formula_pair
from clinicalfmamba_nets.data.phantom import head_phantom, nuclear_colors, write_phantom_pair
from clinicalfmamba_nets.data.phantom_study import write_phantom_study
from clinicalfmamba_nets.data.slices import brats_slices, slice_datalist
from clinicalfmamba_nets.data.splits import case_splits, random_splits
from clinicalfmamba_nets.data.stacks import head_stacks
from clinicalfmamba_nets.data.volume_phantom import brain_volumes, plain_head, write_brain_pair, write_plain_head

__all__ = [
    "aanlib_datalist",
    "brain_volumes",
    "brats_datalist",
    "brats_slices",
    "case_splits",
    "folder_datalist",
    "formula_pair",
    "glioma_phantom",
    "head_phantom",
    "head_stacks",
    "ideal_auc",
    "load_datalist",
    "nuclear_colors",
    "plain_head",
    "random_splits",
    "slice_datalist",
    "two_folders_datalist",
    "unique_cases",
    "write_brain_pair",
    "write_brats_phantoms",
    "write_formula_pair",
    "write_phantom_pair",
    "write_phantom_study",
    "write_plain_head",
]
