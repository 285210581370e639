"""Notes of a pair stay apart, whatever letters they hold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from clinicalfmamba_nets.transforms import LoadImagePair, WindowIntensityPair
from clinicalfmamba_nets.transforms.notes import add_notes, join_notes, split_notes

TEXTS = ["left out: 3 scout; 4 report", "a; b; c", "semicolon;none", "turned"]


@pytest.mark.parametrize("count", range(len(TEXTS) + 1))
def test_what_is_joined_is_split_again(count):
    assert split_notes(join_notes(TEXTS[:count])) == TEXTS[:count]


def test_each_is_told_once_and_line_breaks_do_not_part_a_note():
    meta: dict[str, str] = {}
    add_notes(meta, "warnings", "one\ntwo", None, "", "one two")
    add_notes(meta, "warnings", "one two", "three; four")
    assert split_notes(meta["warnings"]) == ["one two", "three; four"]


def test_a_file_with_a_semicolon_in_its_name_gives_whole_notes(tmp_path):
    import nibabel

    rng = np.random.default_rng(0)
    for name in ("a; b.nii", "c; d.nii"):
        voxels = rng.random((8, 8, 4)).astype(np.float32)
        voxels[0, 0, 0] = np.nan
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pair, _ = LoadImagePair()(tmp_path / "a; b.nii", tmp_path / "c; d.nii")
        meta = WindowIntensityPair()(pair).meta
    texts = [*split_notes(meta["notes"]), *split_notes(meta["warnings"])]
    assert texts and all(text.startswith((str(tmp_path), "image A", "image B")) for text in texts), texts
