"""The page of a run as a file: what it holds, how it is packed, what cannot break out of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from clinicalfmamba_nets.engine.pictures import niivue
from clinicalfmamba_nets.engine.pictures.page import SCRIPTS, PageCase, inline_text, json_text, write_pages
from clinicalfmamba_nets.engine.pictures.page_case import without_names
from clinicalfmamba_nets.engine.pictures.page_layers import color_layer, grey_layer, mask_layer, pack, unpack
from clinicalfmamba_nets.engine.pictures.planes import Grid

VIEWER = niivue.__file__.replace("niivue.py", "viewer")


def case(name="7", side=4, **facts) -> PageCase:
    values = np.random.default_rng(side).integers(0, 900, (side,) * 3)
    grid = Grid((side,) * 3, np.eye(4))
    layers = [grey_layer(letter, values, grid, [[0, 0], [64, 1]]) for letter in ("a", "b", "fused")]
    shape = {"shape": [side] * 3, "sided": True, "placed": True, "picture": False, "labels": ["MRI", "CT"]}
    return PageCase({"name": name, "status": "done"} | shape | facts, layers)


def facts_of(path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)[1])


@pytest.mark.parametrize("kind", ["ramp", "noise", "jumps", "one", "none"])
def test_numbers_come_back(kind):
    made = {
        "ramp": np.arange(5000),
        "noise": np.random.default_rng(1).integers(0, 65536, 3000),
        "jumps": np.array([0, 65535] * 40),
        "one": np.array([7]),
        "none": np.array([]),
    }
    numbers = made[kind].astype(np.uint16)
    assert np.array_equal(unpack(pack(numbers)), numbers)


@pytest.mark.parametrize("low", [-1024, -31000, 0, 17])
def test_whole_numbers_are_kept_to_the_last(low):
    values = np.random.default_rng(2).integers(low, low + 4000, (6, 7, 5)).astype(np.float32)
    layer = grey_layer("a", values, None, [[0, 0], [80, 1]], unit="HU")
    assert np.array_equal(unpack(layer.data) * layer.facts["step"] + layer.facts["low"], values.ravel())


@pytest.mark.parametrize(("top", "shown"), [(1.0, 1.0), (9e6, 4e6), (3e-5, 2e-5)])
def test_decimals_are_kept_to_a_fraction_of_what_is_shown(top, shown):
    values = np.random.default_rng(3).random((8, 9)).astype(np.float32) * np.float32(top)
    layer = grey_layer("b", values, None, [[0, 0], [shown, 1]])
    back = unpack(layer.data) * layer.facts["step"] + layer.facts["low"]
    assert np.abs(back - values.ravel()).max() <= shown / 4000


def test_hounsfield_units_of_an_interpolated_volume_are_rounded_to_whole_ones():
    values = np.array([[-1000.4, 40.6, 3000.2]], np.float32)
    layer = grey_layer("b", values, None, [[0, 0], [80, 1]], unit="HU")
    assert (unpack(layer.data) + layer.facts["low"]).tolist() in ([-1000, 41, 3000], [-1001, 41, 3000])


def test_voxels_run_to_the_right_front_and_top():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    grid = Grid((2, 3, 4), np.array([[0, -1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]]))
    packed = unpack(grey_layer("a", values, grid, [[0, 0], [24, 1]]).data).reshape(4, 2, 3)  # z, y, x
    assert packed[0, 0].tolist() == [8, 4, 0] and packed[3, 1, 2] == values[1, 0, 3]


def test_a_mask_that_covers_all_is_still_one():
    assert unpack(mask_layer("covered", np.ones((2, 2), bool), None).data).tolist() == [1] * 4


def test_colors_lie_one_after_another():
    planes = np.stack([np.full((2, 2), level) for level in (0, 0.5, 1)])
    assert unpack(color_layer("b", planes, None).data).tolist() == [0] * 4 + [128] * 4 + [255] * 4


def test_nothing_ends_a_script_before_its_end(tmp_path):
    evil = "</script><img src=x onerror=alert(1)><!--"
    write_pages(tmp_path / "view.html", [case(evil, warnings=[evil])], {"notice": evil})
    text = (tmp_path / "view.html").read_text()
    assert "<img" not in text and facts_of(tmp_path / "view.html")["cases"][0]["name"] == evil
    assert "</script" not in inline_text("'</script>'") and "<" not in json_text([evil])


def test_why_a_case_has_no_pictures_stands_in_the_page_itself(tmp_path):
    lost = [PageCase({"name": name, "status": "failed", "error": f"<{name}>: no image"}) for name in ("7", "8")]
    (path,) = write_pages(tmp_path / "view.html", [*lost, case("9")], {})
    told = re.findall("<noscript><p>(.*?)</p>", path.read_text())
    assert told == ["7: failed: &lt;7&gt;: no image", "8: failed: &lt;8&gt;: no image"]


def test_a_page_names_no_address_and_forbids_all(tmp_path, monkeypatch):
    monkeypatch.setattr("clinicalfmamba_nets.engine.pictures.page.niivue_script", lambda: ("", "none"))
    (path,) = write_pages(tmp_path / "view.html", [case()], {})
    text = path.read_text()
    assert "default-src 'none'" in text and not re.search(r"https?://|src=|href=[\"']", text)


def test_many_cases_go_to_several_files_that_know_one_another(tmp_path):
    files = write_pages(tmp_path / "view.html", [case(str(number), 12) for number in range(5)], {}, largest=30000)
    assert [file.name for file in files] == ["view.html", "view_2.html", "view_3.html"]
    places = [told["file"] for told in facts_of(files[1])["cases"]]
    assert places == sorted(places, key=lambda name: (len(name), name)) and set(places) == {file.name for file in files}
    assert 'id="case-0-a"' in files[0].read_text() and 'id="case-0-a"' not in files[1].read_text()


def test_further_files_of_an_earlier_page_go(tmp_path):
    """A page without names lay beside the further files of one with names."""
    write_pages(tmp_path / "view.html", [case(str(number), 12) for number in range(5)], {}, largest=30000)
    (tmp_path / "view_4.html").write_text("mine")
    write_pages(tmp_path / "view.html", [case()], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["view.html", "view_4.html"]


def test_a_page_that_cannot_be_made_leaves_the_earlier_one(tmp_path):
    (tmp_path / "view.html").write_text("earlier")

    def cases():
        yield case()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_pages(tmp_path / "view.html", cases(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["view.html"]
    assert (tmp_path / "view.html").read_text() == "earlier"


def test_names_dates_and_uids_are_left_out():
    told = {
        "sources": ["/data/Anna_1970/ct", "/data/Anna_1970/mr::SeriesNumber=3"],
        "fused": "Anna_fused.nii.gz",
        "descriptions": ["Anna head", ""],
        "notes": ["Anna"],
        "warnings": ["/data/Anna_1970/ct: 3 of 20 files", "/data/Anna_1970/mr: UID 1.2.840.10008.77.5 in /x/Anna"],
        "record": {
            "task": "ct_mri",
            "time": "2024-01-02",
            "weights": "w",
            "sha256": {"image": "a"},
            "settings": {"window_b": "40/80"},
        },
    }
    left = without_names(told)
    assert not re.search(r"Anna|1970|2024|840", json.dumps(left))
    assert left["warnings"] == ["A: 3 of 20 files", "B: UID a UID in ..."]
    assert (
        left["record"]["weights"] == "w"
        and "sha256" not in left["record"]
        and left["record"]["settings"] == {"window_b": "40/80"}
    )


def test_niivue_is_taken_from_the_tested_package_alone(tmp_path, monkeypatch):
    class Distribution:
        version = "9.9"

        def locate_file(self, name):
            return tmp_path / "niivue.js"

    (tmp_path / "niivue.js").write_text("alert(1)")
    monkeypatch.setattr(niivue.metadata, "distribution", lambda name: Distribution())
    program, told = niivue.niivue_script()
    assert program == "" and "another NiiVue" in told and "nilearn==0.14.1" in told
    (tmp_path / "niivue.js").unlink()
    assert niivue.niivue_script()[0] == "" and "not installed" in niivue.niivue_script()[1]


def test_the_programs_are_written_well():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to read the programs of the page")
    check = "for (const name of process.argv.slice(1)) new vm.Script(fs.readFileSync(name, 'utf8'), { filename: name })"
    names = [f"{VIEWER}/{name}.js" for name in SCRIPTS]
    found = subprocess.run([node, "-e", check, *names], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
