"""The command `clinicalfmamba export`."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from clinicalfmamba_nets.engine.exporting import write
from clinicalfmamba_nets.engine.exporting.facts import OPERATORS_VERSION
from clinicalfmamba_nets.engine.exporting.loading import load_program
from clinicalfmamba_nets.ops import native

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--format", "exe", "-o", "x"], "invalid choice: 'exe'"),
        (["--format", "ts"], "required: -o/--output"),
        (["--format", "ts", "-o", "x", "--task", "ct_mir"], "did you mean ct_mri?"),
        (["--format", "ts", "-o", "x", "--task", "grading"], "together with --model_dir DIR"),
        (["--format", "ts", "-o", "x", "--model_dir", "d"], "together with --model_dir DIR"),
        (["--format", "ts", "-o", "."], "found the folder '.'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_loaded(run_cli, words, cause):
    done = run_cli("export", *words)
    assert done.code == 2 and cause in done.cause


@pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
def test_a_task_is_exported_with_its_library(toy_cli, tmp_path):
    path = tmp_path / "programs" / "ct_mri.ts"
    done = toy_cli("export", "--task", "ct_mri", "--format", "ts", "-o", str(path), "--library", str(tmp_path / "lib"))
    assert done.code == 0, done.err
    assert "takes    float32 (B, 2, H, W) in [0, 1]: MRI, CT" in done.out and f"version {OPERATORS_VERSION}" in done.out
    assert (tmp_path / "lib" / "libclinicalfmamba_torch.so").stat().st_size > 100_000
    program = load_program(path)
    assert len(program.facts.weights_sha256) == 64 and program.facts.bundle == "fusion_2d"
    assert program(torch.rand(2, 2, 40, 33)).shape == (2, 1, 40, 33)


def test_a_portable_program_needs_nothing(toy_cli, tmp_path):
    path = tmp_path / "ct_mri.ts"
    done = toy_cli("export", "--format", "ts", "-o", str(path), "--portable")
    assert done.code == 0 and "needs    " not in done.out, done.err
    assert load_program(path).facts.operators_version == 0


def test_a_missing_package_is_told_before_anything_is_loaded(toy_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(write, "pretrained", None)
    done = toy_cli("export", "--format", "onnx", "-o", str(tmp_path / "x.onnx"))
    assert done.code == 1 and "found no package onnx; pip install onnx onnxscript" in done.cause


def test_an_unfinished_export_leaves_nothing(toy_cli, tmp_path):
    done = toy_cli("export", "--format", "aoti", "-o", str(tmp_path / "x.pt2"), "--portable")
    assert done.code == 1 and "choose ts or pt2" in done.cause
    assert not list(tmp_path.glob("x*"))


@pytest.mark.hour
def test_a_classifier_is_exported(run_cli, tmp_path):
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    settings = {
        **{"input": "t2", "spatial_dims": 2, "roi_size": [32, 32], "least_shown": 0.1, "block": "basic"},
        **{"layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]},
    }
    options = {name: settings[name] for name in ("spatial_dims", "block", "layers", "block_inplanes")}
    network = ResNet(n_input_channels=1, num_classes=1, **options).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    image = torch.rand(3, 1, 40, 32)
    for file_format in ("ts", "pt2", "onnx"):
        path = tmp_path / f"grading.{file_format}"
        words = ["--task", "grading", "--model_dir", str(tmp_path), "--format", file_format, "-o", str(path)]
        done = run_cli("export", *words)
        assert done.code == 0 and "logit of high grade" in done.out, done.err
        with torch.no_grad():
            torch.testing.assert_close(load_program(path)(image), network(image), atol=2e-5, rtol=1e-4)
