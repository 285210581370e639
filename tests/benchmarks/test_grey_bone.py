"""Bone of 8-bit pictures of a CT: where it is lost, the warning is told."""

from __future__ import annotations

from benchmarks.grey_bone import CURVES, lost_in, slices_of


def test_bone_is_lost_where_the_warning_is_told_and_nowhere_else(shared_data):
    pairs = slices_of(shared_data, 15)
    found = {name: lost_in(CURVES[name], pairs, 1.0) for name in ("brain", "head", "bone")}
    assert [told for _, told in found["bone"]] == [False, True, True, True]
    assert min(lost for lost, told in found["bone"] if told) > 0.15
    assert max(lost for name in ("brain", "head") for lost, _ in found[name]) < 0.01
    assert not any(told for name in ("brain", "head") for _, told in found[name])
