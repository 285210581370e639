"""The page of a folder of results: read from what the records tell, refused where the sources are other ones."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch

from clinicalfmamba_nets.engine.fusion.case import Case, content_digest
from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.fusion.viewing import Viewing, load_pair, write_case_page, write_view
from clinicalfmamba_nets.engine.pictures.page_layers import unpack
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import write_image

AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 2.0, -16], [0, 0, 0, 1]])


def result(folder, name="7", seed=0, share=None, **record) -> dict:
    """A pair of volumes and something in the place of its fused image, as a run leaves them; return its record."""
    rng, inputs = np.random.default_rng(seed), folder / "Anna"
    inputs.mkdir(parents=True, exist_ok=True)
    mri = rng.integers(0, 900, (40, 36, 18)).astype(np.int16)
    ct = rng.integers(-1000, 1500, (40, 36, 18)).astype(np.int16)
    for kind, array in (("mri", mri), ("ct", ct)):
        write_image(inputs / f"{name}_{kind}.nii.gz", array, None, AFFINE, "int16")
    write_image(folder / f"{name}_fused.nii.gz", (mri // 2).astype(np.int16), None, AFFINE, "int16")
    if share is not None:
        write_image(folder / f"{name}_weights.nii.gz", share.astype(np.float32), None, AFFINE, "float32")
    case = {"case": name, "image": str(inputs / f"{name}_mri.nii.gz"), "image2": str(inputs / f"{name}_ct.nii.gz")}
    sums = Case.of(case).identity() | {"fused": content_digest(folder / f"{name}_fused.nii.gz")}
    settings = FuseOptions(window_b="40/80", weights_map=share is not None).image_settings()
    made_by = {"weights": "w" * 64, "task": "ct_mri", "bundle": "fusion_2d", "settings": settings}
    return case | made_by | {"fused": f"{name}_fused.nii.gz", "sha256": sums, "time": "2031-02-03"} | record


def run_json(folder, records, failed=()) -> None:
    outputs = [{"case": one["case"], "status": "done", "error": None} for one in records]
    outputs += [{"case": name, "status": "failed", "error": f"/data/{name}: no image"} for name in failed]
    report = {"outputs": outputs, "records": list(records), "settings": {"task": None}, "finished": "2031-02-03"}
    (folder / "run.json").write_text(json.dumps(report))


def page_of(path) -> tuple[dict, dict]:
    """Facts of the first case of a page, and its numbers by layer."""
    text = path.read_text(encoding="utf-8")
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text, re.DOTALL)[1])
    found = re.findall(r'id="case-0-(\w+)">(.*?)</script>', text)
    return facts, {name: unpack(base64.b64decode(data)).astype(float) for name, data in found}


def test_values_and_places_of_all_images_are_in_the_page(tmp_path):
    share = np.random.default_rng(5).random((40, 36, 18))
    run_json(tmp_path, [result(tmp_path, "7[a]", share=share)])
    (path,), lost = write_view(tmp_path)
    facts, numbers = page_of(path)
    told = facts["cases"][0]
    assert not lost and told["shape"] == [40, 36, 18] and told["spacing"] == [1.0, 1.5, 2.0]
    rng = np.random.default_rng(0)
    mri, ct = rng.integers(0, 900, (40, 36, 18)), rng.integers(-1000, 1500, (40, 36, 18))
    x, y, z = 7, 20, 11  # as stored; the page runs to the right, the file to the left
    index = (39 - x) + 40 * (y + 36 * z)
    read = {name: numbers[name][index] * one["step"] + one["low"] for name, one in told["layers"].items()}
    assert (read["a"], read["b"], read["fused"]) == (mri[x, y, z], ct[x, y, z], mri[x, y, z] // 2)
    assert read["share"] == pytest.approx(share[x, y, z], abs=2e-4)
    assert told["layers"]["b"]["unit"] == "HU" and told["layers"]["b"]["knots"] == [[0.0, 0.0], [80.0, 1.0]]
    voxel = np.array([39 - x, y, z, 1])
    assert np.allclose(np.array(told["affine"]) @ voxel, AFFINE @ [x, y, z, 1])
    assert np.allclose(np.array(told["stored"]) @ voxel, [x, y, z, 1])
    assert set(told["scores"]) >= {"ssim_a", "outside_sources"} and told["record"]["task"] == "ct_mri"


def test_an_anonymous_page_holds_no_name_and_no_date(tmp_path):
    run_json(tmp_path, [result(tmp_path, "Anna7")], failed=["Anna8"])
    (path,), _ = write_view(tmp_path, anonymous=True)
    text = path.read_text(encoding="utf-8")
    facts, _ = page_of(path)
    assert not re.search(r"Anna|2031-|pytest", text.replace("clinicalfmamba", ""))
    assert [told["name"] for told in facts["cases"]] == ["case 1", "case 2"]


def test_cases_that_cannot_be_shown_are_told_and_the_others_are_shown(tmp_path):
    records = [result(tmp_path, name, seed) for seed, name in enumerate(("gone", "changed", "good"))]
    (tmp_path / "Anna" / "gone_ct.nii.gz").unlink()
    write_image(tmp_path / "Anna" / "changed_mri.nii.gz", np.ones((40, 36, 18), np.int16), None, AFFINE, "int16")
    run_json(tmp_path, records, failed=["never"])
    (path,), lost = write_view(tmp_path)
    told = {one["name"]: one for one in page_of(path)[0]["cases"]}
    assert len(lost) == 2 and "no such file" in lost[0] and "changed since" in lost[1]
    assert [told[name]["status"] for name in ("gone", "changed", "good", "never")] == [
        "not shown",
        "not shown",
        "done",
        "failed",
    ]
    assert "no image" in told["never"]["error"] and "shape" not in told["gone"] and "shape" in told["good"]


@pytest.mark.parametrize("content", [None, "{}", "[1]", "not json"])
def test_a_folder_without_results_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(FusionInputError, match="report of a fusion|results to show"):
        write_view(tmp_path)


def test_results_of_earlier_runs_are_shown_too(tmp_path):
    records = [result(tmp_path, "1"), result(tmp_path, "2", 1)]
    run_json(tmp_path, records[1:])
    report = json.loads((tmp_path / "run.json").read_text()) | {"records": records}
    (tmp_path / "run.json").write_text(json.dumps(report))
    assert [case.facts["name"] for case in Viewing(tmp_path).cases()] == ["2", "1"]


def test_a_case_that_keeps_no_report_has_a_page_of_its_own(tmp_path):
    record = result(tmp_path)
    case = Case.of({key: record[key] for key in ("case", "image", "image2")})
    sample, raw = load_pair(case, record)
    sample["pred"] = torch.from_numpy(raw[:1] // 2)
    path = write_case_page(tmp_path / "own.html", case, sample, record)
    facts, numbers = page_of(path)
    (told,) = facts["cases"]
    assert told["name"] == "7" and told["labels"] == ["MRI", "CT"] and told["record"]["weights"] == "w" * 64
    low, step = (told["layers"]["b"][key] for key in ("low", "step"))
    assert numbers["b"].max() * step + low == raw[1].max()


def test_a_record_is_never_run(tmp_path):
    run = f"$open({str(tmp_path / 'ran')!r}, 'w').close()"
    settings = {"window_a": {"_target_": "builtins.open", "file": str(tmp_path / "ran"), "mode": "w"}}
    for number, changed in enumerate([{"task": run}, {"settings": {"window_b": run}}, {"settings": settings}]):
        run_json(tmp_path, [result(tmp_path, **changed)])
        _, (cause,) = write_view(tmp_path)
        assert "which a bundle would run" in cause and not (tmp_path / "ran").exists(), number


def test_a_result_of_another_case_is_not_shown(tmp_path):
    run_json(tmp_path, [result(tmp_path, "7"), result(tmp_path, "8", seed=1)])
    (tmp_path / "7_fused.nii.gz").write_bytes((tmp_path / "8_fused.nii.gz").read_bytes())
    (path,), lost = write_view(tmp_path)
    told = [case["status"] for case in page_of(path)[0]["cases"]]
    assert len(lost) == 1 and "7_fused.nii.gz: expected the result of this case, found one that was changed" in lost[0]
    assert sorted(told) == ["done", "not shown"]


@pytest.mark.parametrize(
    "report", ["[1]", '{"outputs": [1]}', '{"outputs": 3}', '{"outputs": [], "settings": [1]}', '{"outputs": {}}']
)
def test_a_report_of_another_kind_is_refused(tmp_path, report):
    (tmp_path / "run.json").write_text(report)
    with pytest.raises(FusionInputError, match=r"run\.json: expected the report of a fusion, found none"):
        write_view(tmp_path)
