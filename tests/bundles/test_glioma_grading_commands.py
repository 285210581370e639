"""The commands of monai.bundle on the grading bundle, in 2D and 3D, from a folder that is not the bundle's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from monai import bundle as commands
from monai.data import MetaTensor

from clinicalfmamba_nets.data import write_brats_phantoms
from clinicalfmamba_nets.engine import run_bundle

CLASSIFIER = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
SHAPE = "_meta_::network_data_format::inputs::image::spatial_shape"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:parsing config_file")


@pytest.fixture(scope="module")
def bundle(checkout):
    return checkout / "bundles" / "glioma_grading"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder that is not the bundle's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module", params=[2, 3], ids=["2D", "3D"])
def network(request, bundle, tmp_path_factory):
    """Settings of a small network, its weights, an input, and what the network makes of it."""
    settings = {**CLASSIFIER, "spatial_dims": request.param, "input": "t2"}
    parser = commands.ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update(settings)
    torch.manual_seed(0)
    made = parser.get_parsed_content("network_def").eval()
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(made.state_dict(), path)
    image = torch.rand(2, 1, *[32] * request.param, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return settings, path, image, made(image)


def files(bundle, name="inference"):
    return {
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": str(bundle / "configs" / f"{name}.json"),
    }


@pytest.mark.parametrize("name", ["train", "inference"])
@pytest.mark.parametrize("n", [1, 2])
def test_the_network_is_verified(bundle, elsewhere, network, name, n):
    settings, _, image, _ = network
    shape = {SHAPE: ["32 * n"] * (image.ndim - 2)}
    commands.verify_net_in_out(net_id="network_def", n=n, device="cpu", **files(bundle, name), **settings, **shape)


@pytest.mark.parametrize("use_trace", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["script", "trace"])
def test_export_to_torchscript(bundle, elsewhere, network, use_trace):
    settings, weights, image, graded = network
    commands.ckpt_export(
        net_id="network_def",
        filepath="model.ts",
        ckpt_file=str(weights),
        use_trace=use_trace,
        input_shape=list(image.shape) if use_trace else None,
        **files(bundle),
        **settings,
    )
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load("model.ts", _extra_files=extra)
    torch.testing.assert_close(exported(image), graded, atol=1e-5, rtol=0)
    assert all(len(text) > 500 for text in extra.values())


@pytest.mark.slow
def test_export_to_onnx(bundle, elsewhere, network):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    settings, weights, image, graded = network
    given = {"filepath": "model.onnx", "ckpt_file": str(weights), "input_shape": list(image.shape)}
    commands.onnx_export(net_id="network_def", **given, **files(bundle), **settings)
    session = onnxruntime.InferenceSession("model.onnx")
    (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), graded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["train", "inference"])
def test_load_from_another_folder(bundle, elsewhere, network, name):
    settings, weights, image, graded = network
    root = shutil.copytree(bundle, elsewhere / "zoo" / "glioma_grading", ignore=shutil.ignore_patterns("*.pt"))
    (root / "models").mkdir(exist_ok=True)
    shutil.copy(weights, root / "models" / "model.pt")
    arguments = {**CLASSIFIER, "spatial_dims": settings["spatial_dims"], "n_input_channels": 1}
    given = {"bundle_dir": root.parent, "workflow_type": name, "net_override": arguments, "device": "cpu"}
    loaded = commands.load("glioma_grading", **given).eval()
    with torch.no_grad():
        assert torch.equal(loaded(image), graded)
        assert torch.equal(torch.as_tensor(loaded(MetaTensor(image))), graded)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_brats_phantoms(tmp_path_factory.mktemp("data") / "phantoms", 5, 5, "easy", (20, 24, 18))


def settings_for(phantoms, folder, **more):
    given = {**CLASSIFIER, "input": "t2_flair", "dataset_dir": str(phantoms), "roi_size": [16, 16, 6]}
    given |= {"output_dir": str(folder), "val_fraction": 0.3, "batch_size": 4, "device": torch.device("cpu")}
    return {**given, "cache_dir": str(phantoms.parent / "images"), **more}


@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_and_two_epochs_equal_four(phantoms, tmp_path, dims):
    def train(name, epochs, resume=False):
        settings = settings_for(phantoms, tmp_path / name, epochs=epochs, resume=resume, spatial_dims=dims)
        run_bundle("glioma_grading", "train", overrides=settings)
        checkpoint = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        return checkpoint["network"], torch.load(tmp_path / name / "model.pt", weights_only=True)

    whole = train("whole", 4)
    half = train("parts", 2)
    torch.rand(7)
    parts = train("parts", 4, resume=True)
    for first, second in zip(whole, parts, strict=True):
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(half[0][name], whole[0][name]) for name in whole[0])


def run_program(*arguments, cwd):
    """Run `python -m monai.bundle` as a user does; returns exit code, text, and the last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "monai.bundle", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return done.returncode, done.stdout + done.stderr, lines[-1] if lines else ""


@pytest.mark.slow
def test_train_evaluate_and_grade_as_programs(bundle, phantoms, elsewhere):
    configs, run = bundle / "configs", elsewhere / "run1" / "t2_flair"
    given = {**CLASSIFIER, "input": "t2_flair", "roi_size": [16, 16, 6], "dataset_dir": phantoms}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    more = ["--bundle_root", bundle, "--output_dir", run, "--epochs", 1, "--val_fraction", 0.3]
    code, text, _ = run_program(
        "run", "training", "--config_file", configs / "train.json", *more, *words, cwd=elsewhere
    )
    assert code == 0 and "epoch 1/1  loss " in text, text
    both = "['configs/inference.json','configs/evaluate.json']"
    words += ["--model_dir", run]
    code, text, _ = run_program("run", "evaluate", "--config_file", both, *words, "--output_dir", run / "t", cwd=bundle)
    assert code == 0 and "not for diagnosis" in text, text
    assert 0 <= json.loads((run / "t" / "metrics.json").read_text())["patients"]["auc"] <= 1
    code, _, last = run_program(
        *["run", "inference", "--config_file", configs / "inference.json", "--bundle_root", bundle],
        *[*words, "--input", "t2"],
        cwd=elsewhere,
    )
    assert code == 1 and last.startswith("error: input: expected 't2_flair', as in the training of")


@pytest.mark.slow
def test_a_wrong_name_ends_the_program_with_one_line(bundle, elsewhere):
    config = bundle / "configs" / "train.json"
    code, text, last = run_program("run", "training", "--config_file", config, "--epochz", 3, cwd=elsewhere)
    assert code == 1 and "Traceback" not in text
    assert last.startswith("error: override 'epochz': ") and last.endswith("did you mean 'epochs'?")
    assert not list(elsewhere.iterdir())
