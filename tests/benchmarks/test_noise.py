"""The benchmark of a CT's noise prints what it tells of."""

from __future__ import annotations

import sys

import pytest

from benchmarks.noise import PLACES, contrast_to_noise, head, main


def test_the_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["noise", "--heads", "1", "--noise", "8"])
    main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 3 * len(PLACES)
    found = {(row[0].strip(), row[1].strip()): float(row[2]) for row in rows}
    assert found["MR darker by .2", "refined"] < 0.5 < found["MR darker by .2", "refined, known"]


@pytest.mark.slow
def test_templates_show_less_of_the_noise_where_it_is_known(monkeypatch, capsys, tmp_path, shared_data):
    picture = tmp_path / "slice.png"
    monkeypatch.setattr(sys, "argv", ["noise", "--data", str(shared_data / "vol"), "--picture", str(picture)])
    main()
    refined, known = (float(line.split("|")[2]) for line in capsys.readouterr().out.splitlines()[2:])
    assert known < 0.4 and refined > 0.5 and picture.exists()


@pytest.mark.parametrize("name", list(PLACES))
def test_a_lesion_stands_out_of_its_own_image_alone(name):
    pair, lesions, brain = head(0, 3.0, 0.8)
    source = PLACES[name][3]
    own, other = (abs(contrast_to_noise(pair[number].numpy(), name, lesions, brain)) for number in (source, 1 - source))
    assert own > 1 > other
