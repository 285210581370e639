"""Evaluation: files, statistics, traps, resume, runs, color, volumes, messages, and the numbers on real pairs."""

from __future__ import annotations

import csv
import functools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clinicalfmamba_nets.data import head_phantom
from clinicalfmamba_nets.engine.evaluation.comparison import (
    MixtureFusion,
    baseline_networks,
    compared_networks,
    trap_networks,
)
from clinicalfmamba_nets.engine.evaluation.evaluator import PairEvaluator, evaluate_pairs
from clinicalfmamba_nets.engine.evaluation.items import as_picture
from clinicalfmamba_nets.engine.evaluation.plots import write_box_plot
from clinicalfmamba_nets.engine.evaluation.score_sheet import network_digest
from clinicalfmamba_nets.engine.evaluation.tables import describe, markdown_table, remarks, summarize
from clinicalfmamba_nets.engine.pictures.contact_sheet import contact_sheet
from clinicalfmamba_nets.engine.run.seen_pairs import pair_names
from clinicalfmamba_nets.engine.run.weights import file_digest
from clinicalfmamba_nets.errors import FusionInputError

METRICS = ["ssim", "qabf", "scd", "vif", "background_mean", "entropy", "entropy_float", "psnr"]


SIZE = 64


@functools.cache
def head(seed: int) -> torch.Tensor:
    """MRI and CT of a synthetic head, (2, SIZE, SIZE)."""
    phantom = head_phantom(size=SIZE, seed=seed)
    return torch.stack([torch.as_tensor(phantom[name]) for name in ("mri", "ct")]).float()


def pairs(count: int = 2) -> list[dict]:
    """Pairs of synthetic heads."""
    return [{"case": f"head{seed}", "image": head(seed)} for seed in range(count)]


class Counter(nn.Module):
    """A network that counts its calls and tells in which mode it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Size] = []
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image.shape)
        assert not self.training and not torch.is_grad_enabled()
        return self.weight * image[:, :1] + (1 - self.weight) * image[:, 1:]


def read_rows(folder):
    with open(folder / "pairs.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_writes_every_file_with_the_same_numbers(tmp_path):
    summary = evaluate_pairs(pairs(3), {"mixture": MixtureFusion(0.7)}, tmp_path, metrics=METRICS)
    assert {path.name for path in tmp_path.iterdir()} == {
        "pairs.csv",
        "summary.json",
        "table.md",
        "contact_sheet.png",
        "box_plot.png",
    }
    rows = [row for row in read_rows(tmp_path) if row["network"] == "mixture"]
    assert [row["case"] for row in rows] == ["head0", "head1", "head2"]
    scores = [float(row["qabf"]) for row in rows]
    stored = json.loads((tmp_path / "summary.json").read_text())["networks"]["mixture"]["runs"]["run1"]["qabf"]
    assert stored["mean"] == pytest.approx(np.mean(scores)) == summary["mixture"]["runs"]["run1"]["qabf"]["mean"]
    assert stored["std"] == pytest.approx(np.std(scores, ddof=1)) and stored["count"] == 3
    table = (tmp_path / "table.md").read_text()
    assert f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}" in table
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    assert sheet.shape[2] == 3 and sheet.shape[0] > 3 * SIZE and sheet.shape[1] > 4 * SIZE
    assert Image.open(tmp_path / "box_plot.png").width > 300


def test_two_evaluations_are_equal_to_the_byte(tmp_path):
    for name in ("first", "second"):
        evaluate_pairs(pairs(), {"mixture": MixtureFusion(0.7)}, tmp_path / name, metrics=METRICS)
    for file in ("pairs.csv", "table.md", "contact_sheet.png", "box_plot.png"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_traps_look_bad_and_the_reference_does_not(tmp_path):
    summary = evaluate_pairs(pairs(), {**baseline_networks(), **trap_networks()}, tmp_path, metrics=METRICS)
    assert remarks(summary, "average") == []
    assert "copies one source" in remarks(summary, "trap: copy of A")
    assert "copies one source" in remarks(summary, "trap: copy of B")
    assert "copies one source" in remarks(summary, "trap: 0.9 A + 0.1 B")
    veil = remarks(summary, "trap: average + 4/255 in the background")
    assert "greys the background" in veil and "SSIM below the average's" in veil
    assert remarks(summary, "trap: average + noise of 1e-5") == ["VIF, Qabf, SCD not above the average's"]
    noisy, plain = (summary[name]["over_runs"] for name in ("trap: average + noise of 1e-5", "average"))
    assert noisy["entropy_float"]["mean"] > plain["entropy_float"]["mean"] + 2
    assert noisy["entropy"]["mean"] == pytest.approx(plain["entropy"]["mean"], abs=0.01)
    table = (tmp_path / "table.md").read_text()
    copy = next(line for line in table.splitlines() if line.startswith("| trap: copy of A") and "copies" in line)
    assert copy.endswith("|") and 'named "trap"' in table
    assert "unbounded" in table
    assert (
        json.loads((tmp_path / "summary.json").read_text())["networks"]["trap: copy of A"]["over_runs"]["psnr"]["mean"]
        == "inf"
    )


def test_published_rows_are_marked_as_other_test_sets():
    rows = [{"run": "run1", "case": "1", "network": "average", "ssim": 0.75, "psnr": 16.0, "entropy_float": 4.4}]
    table = markdown_table(summarize(rows), "ct_mri_published", published=True)
    printed = next(line for line in table.splitlines() if "*ClinicalFMamba, as printed" in line)
    assert printed == "| *ClinicalFMamba, as printed: OTHER test sets* | *16.52* | *0.783* | *15.21* |"
    assert "no measure of information" in table
    assert "as printed" not in markdown_table(summarize(rows), "pet_mri", published=True)
    assert "as printed" not in markdown_table(summarize(rows), "ct_mri")


def test_statistics_over_pairs_and_over_runs(tmp_path):
    runs = {"run1": pairs(2), "run2": pairs(3)[1:]}
    summary = evaluate_pairs(runs, {}, tmp_path, metrics=["ssim"])
    means = [scores["ssim"]["mean"] for scores in summary["average"]["runs"].values()]
    over = summary["average"]["over_runs"]["ssim"]
    assert over["mean"] == pytest.approx(np.mean(means)) and over["std"] == pytest.approx(np.std(means, ddof=1))
    assert (tmp_path / "contact_sheet_run1.png").is_file() and (tmp_path / "contact_sheet_run2.png").is_file()
    assert "over 2 runs" in (tmp_path / "table.md").read_text()
    assert describe([math.nan, math.inf]) == {"mean": math.inf, "std": None, "count": 1}
    assert describe([math.nan]) == {"mean": None, "std": None, "count": 0}


def test_each_run_can_have_its_own_weights(tmp_path):
    networks = {"own": {"run1": MixtureFusion(1.0), "run2": MixtureFusion(0.0)}, "half": {"run2": MixtureFusion(0.5)}}
    summary = evaluate_pairs({"run1": pairs(1), "run2": pairs(1)}, networks, tmp_path, metrics=["ssim"])
    own = summary["own"]["runs"]
    assert own["run1"]["ssim_a"]["mean"] == pytest.approx(1) and own["run2"]["ssim_b"]["mean"] == pytest.approx(1)
    assert list(summary["half"]["runs"]) == ["run2"]


def test_resume_computes_only_what_is_missing_or_changed(tmp_path):
    network, items = Counter(), pairs(3)
    options = {"metrics": ["ssim"], "sheet_cases": 0}
    evaluate_pairs(items[:2], {"counter": network}, tmp_path, **options)
    assert len(network.seen) == 2
    first = read_rows(tmp_path)
    summary = evaluate_pairs(items, {"counter": network}, tmp_path, **options)
    assert len(network.seen) == 3 and read_rows(tmp_path)[: len(first)] == first
    assert summary["counter"]["runs"]["run1"]["ssim"]["count"] == 3
    with torch.no_grad():
        network.weight.fill_(0.6)
    evaluate_pairs(items, {"counter": network}, tmp_path, **options)
    assert len(network.seen) == 6
    items[0]["image"] = items[0]["image"].flip(1)
    evaluate_pairs(items, {"counter": network}, tmp_path, **options)
    assert len(network.seen) == 7
    evaluate_pairs(items, {"counter": network}, tmp_path, resume=False, **options)
    assert len(network.seen) == 10
    (tmp_path / "pairs.csv").write_text("run,case\nbroken")
    evaluate_pairs(items, {"counter": network}, tmp_path, **options)
    assert len(network.seen) == 13


def test_an_interruption_keeps_earlier_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("clinicalfmamba_nets.engine.evaluation.score_sheet.INTERVAL", 0.0)
    items = pairs(3)
    evaluate_pairs(items, {}, tmp_path, metrics=["ssim"], sheet_cases=0)
    broken = [{**items[0], "image": items[0]["image"] * 0.9}, {"case": "bad", "image": torch.zeros(3, 8, 8)}]
    with pytest.raises(FusionInputError, match=r"case bad: expected the two sources as \(2, \*spatial\)"):
        evaluate_pairs(broken, {}, tmp_path, metrics=["ssim"], sheet_cases=0)
    assert {row["case"] for row in read_rows(tmp_path)} == {"head0", "head1", "head2"}
    assert len(read_rows(tmp_path)) == 4


def test_one_bad_or_small_pair_does_not_end_an_evaluation(tmp_path):
    tiny = {"case": "tiny", "image": torch.rand(2, 10, 10)}
    summary = evaluate_pairs([pairs(1)[0], tiny], {}, tmp_path / "a", metrics=["ssim", "ms_ssim"])
    assert [summary["average"]["over_runs"][name]["mean"] is None for name in ("ssim", "ms_ssim")] == [False, False]
    rows = read_rows(tmp_path / "a")
    assert rows[1]["ms_ssim"] == "nan" and "needs at least 11 pixels" in rows[1]["remarks"]
    bad = {"case": "lost", "error": "lost.png: no such file"}
    with pytest.raises(FusionInputError, match="expected all 3 pairs, found 1 .*case lost: .*lost.png: no such file"):
        evaluate_pairs([bad, *pairs(2)], {}, tmp_path / "b", metrics=["ssim"])
    assert {row["case"] for row in read_rows(tmp_path / "b")} == {"head0", "head1"}
    content = json.loads((tmp_path / "b" / "summary.json").read_text())
    assert content["failures"][0]["case"] == "lost" and "Not scored: lost" in (tmp_path / "b" / "table.md").read_text()


def test_weights_and_data_are_named_in_every_output(tmp_path, caplog):
    network = MixtureFusion(0.7)
    weights = tmp_path / "run" / "model.pt"
    weights.parent.mkdir()
    torch.save(network.state_dict(), weights)
    network.weights_file = {"file": str(weights), "sha256": file_digest(weights)}
    items = [{**pair, "image2": "ct.png"} for pair in pairs(2)]
    names = pair_names([{"case": pair["case"], "image": "mri.png", "image2": "ct.png"} for pair in items])
    (weights.parent / "run.json").write_text(json.dumps({"pairs": {"training": names[:1]}}))
    listed = Listed(items)
    with caplog.at_level("INFO", "clinicalfmamba"):
        evaluate_pairs({"mylist": listed}, {"mixture": network}, tmp_path / "out", metrics=["ssim"])
    table, content = (tmp_path / "out" / "table.md").read_text(), (tmp_path / "out" / "summary.json").read_text()
    assert file_digest(weights) in table and file_digest(weights) in content and "mylist, 2 pairs" in table
    assert all(len(row["weights"]) == 12 for row in read_rows(tmp_path / "out"))
    told = "mixture was trained on 1 of these 2 pairs (head0): its scores on them say nothing about new images"
    assert told in caplog.text and told in table
    assert "network   SSIM" in caplog.text  # the table on the terminal


class Listed:
    """Pairs with the paths that they were read from, as a MONAI dataset has them."""

    def __init__(self, items):
        self.items = items
        self.data = [{"case": item["case"], "image": "mri.png", "image2": "ct.png"} for item in items]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_color_pairs_have_no_ct_metrics_and_a_colored_sheet(tmp_path):
    item = pairs(1)[0] | {"image_chroma": torch.stack([torch.full((SIZE, SIZE), 0.3), torch.full((SIZE, SIZE), 0.8)])}
    evaluate_pairs([item], {}, tmp_path, task="spect_mri", metrics=["ssim", "bone_mean"], sheet_cases=["head0"])
    assert "bone_mean" not in read_rows(tmp_path)[0]
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png")).astype(int)
    assert (abs(sheet[..., 0] - sheet[..., 2]) > 60).sum() > 500


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_volumes_are_evaluated_beside_the_baselines_of_either_bundle(tmp_path, spatial_dims):
    generator = torch.Generator().manual_seed(0)
    items = [{"case": "volume", "image": torch.rand(2, 24, 24, 18, generator=generator)}]
    summary = evaluate_pairs(
        items, compared_networks({}, spatial_dims=spatial_dims), tmp_path, task="brats", metrics=["psnr", "ssim"]
    )
    assert len(summary) == 5
    assert summary["average"]["runs"]["run1"]["ssim"]["count"] == 1


def test_errors_are_one_line(tmp_path):
    with pytest.raises(FusionInputError, match="test list run1: expected at least one pair, found none"):
        evaluate_pairs([], {}, tmp_path)
    with pytest.raises(FusionInputError, match="test lists: expected at least one"):
        evaluate_pairs({}, {}, tmp_path)
    with pytest.raises(ValueError, match="metrics: expected names among .* found 'lpips'"):
        evaluate_pairs(pairs(1), {}, tmp_path, metrics=["lpips"])
    with pytest.raises(FusionInputError, match="broken, case head0: expected finite values, found NaN"):
        evaluate_pairs(pairs(1), {"broken": MixtureFusion(math.nan)}, tmp_path)
    with pytest.raises(ValueError, match="rows of 2 pictures"):
        contact_sheet([("1", [np.zeros((4, 4))])], ["a", "b"])
    with pytest.raises(ValueError, match="box plot needs rows"):
        write_box_plot([{"network": "average"}], tmp_path / "plot.png")


def test_digest_sees_weights_and_options():
    assert network_digest(MixtureFusion(0.3)) != network_digest(MixtureFusion(0.4))
    counter = Counter()
    before = network_digest(counter)
    assert network_digest(counter.train()) == before == network_digest(counter.eval())
    with torch.no_grad():
        counter.weight.add_(1e-6)
    assert network_digest(counter) != before


def test_sheet_cases_are_spread_over_the_list(tmp_path):
    evaluator = PairEvaluator([], {}, tmp_path, sheet_cases=3)
    assert [index for index in range(30) if evaluator._is_shown("", index, 30)] == [5, 15, 25]
    assert sum(evaluator._is_shown("", index, 2) for index in range(2)) == 2
    evaluator.sheet_cases = ["28011"]
    assert evaluator._is_shown("28011", 0, 30) and not evaluator._is_shown("28012", 0, 30)


def test_picture_of_grey_is_grey():
    picture = as_picture(torch.full((1, 4, 5), 0.25), torch.full((2, 4, 5), 0.5))
    np.testing.assert_allclose(picture, np.full((4, 5, 3), 0.25), atol=1e-6)


# Measured with another implementation of the metrics on the 30 test pairs of run 1 of the random CT-MRI split.
REAL = {
    "average": (15.93, 0.785, 0.545, 0.526, 0.663, 0.819, 0.497, 0.387, 0.90, 0.60),
    "maximum": (15.67, 0.789, 0.701, 0.390, 0.593, 0.837, 0.700, 0.565, 1.45, 0.99),
    "Laplacian pyramid": (15.62, 0.777, 0.535, 0.490, 0.643, 0.805, 0.522, 0.587, 1.04, 0.79),
    "Laplacian pyramid, max base": (15.81, 0.776, 0.567, 0.458, 0.619, 0.810, 0.567, 0.556, 1.47, 0.94),
    "guided filter": (15.41, 0.763, 0.480, 0.536, 0.632, 0.814, 0.578, 0.610, 0.90, 0.65),
}
REAL_COLUMNS = ("psnr", "ssim", "ssim_head_b", "ssim_head_a", "ms_ssim", "fsim", "vif", "qabf", "scd", "bone_mean")
TOLERANCE = (0.02, 0.001, 0.004, 0.004, 0.005, 0.001, 0.003, 0.0015, 0.006, 0.006)


@pytest.mark.slow
def test_baselines_score_as_measured_elsewhere(shared_data, tmp_path):
    from monai.transforms import Compose, EnsureChannelFirstd

    from clinicalfmamba_nets.engine.evaluation.items import evaluation_items
    from clinicalfmamba_nets.transforms import LoadImagePaird, ScaleIntensityPaird

    transform = Compose(
        [
            LoadImagePaird(keys="image", spatial_dims=2),
            EnsureChannelFirstd(keys="image"),
            ScaleIntensityPaird(keys="image"),
        ]
    )
    items = evaluation_items(shared_data, "ct_mri", transform)
    names = ["psnr", "ssim", "ms_ssim", "fsim", "vif", "qabf", "scd", "bone_mean"]
    summary = evaluate_pairs(items, baseline_networks(), tmp_path, metrics=names, sheet_cases=2)
    for network, expected in REAL.items():
        scores = summary[network]["runs"]["run1"]
        assert scores["ssim"]["count"] == 30
        for name, value, tolerance in zip(REAL_COLUMNS, expected, TOLERANCE, strict=True):
            assert scores[name]["mean"] == pytest.approx(value, abs=tolerance), (network, name)


def test_a_change_of_the_program_is_another_fingerprint(monkeypatch, tmp_path):
    from clinicalfmamba_nets.engine.evaluation import score_sheet

    names = {path.name for path in score_sheet.sources(score_sheet.NETWORKS)}
    assert {"refinement.py", "inferers.py", "mix.cpp", "clinicalfmamba.py", "edges.py"} <= names
    source = tmp_path / "refinement.py"
    monkeypatch.setattr(score_sheet, "sources", lambda packages: [source])
    found = []
    for text in ("STEPS = 24", "STEPS = 48", "STEPS = 24"):
        source.write_text(text)
        score_sheet.program_digest.cache_clear()
        found.append(score_sheet.program_digest(score_sheet.NETWORKS))
    score_sheet.program_digest.cache_clear()
    assert found[0] == found[2] != found[1]
