"""The commands of monai.bundle on the bundle: in this process where that is equal, as programs where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch
from monai import bundle as commands
from monai.data import MetaTensor

FILES = ("train", "inference")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:parsing config_file")


def settings(tiny):
    return [part for name, value in tiny.items() for part in (f"--{name}", str(value))]


def run_program(*arguments, cwd, program=("-m", "monai.bundle")):
    """Run a command as a user does; returns exit code, text, and the last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    lines = (done.stderr or done.stdout).strip().splitlines()
    return done.returncode, done.stdout + done.stderr, lines[-1] if lines else ""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder that is not the bundle's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_metadata_is_verified_offline(bundle_dir, elsewhere):
    schema = shutil.copy(bundle_dir.parent / "meta_schema_20240725.json", elsewhere)
    commands.verify_metadata(meta_file=str(bundle_dir / "configs" / "metadata.json"), filepath=str(schema))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("n", [1, 2])
def test_the_network_is_verified(bundle_dir, elsewhere, tiny, name, n):
    commands.verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle_dir / "configs" / "metadata.json"),
        config_file=str(bundle_dir / "configs" / f"{name}.json"),
        n=n,
        device="cpu",
        **tiny,
    )


def test_the_output_has_the_size_of_the_input(bundle_dir, tiny):
    parser = commands.ConfigParser()
    parser.read_config(str(bundle_dir / "configs" / "inference.json"))
    parser.update(tiny)
    network = parser.get_parsed_content("network_def").eval()
    for size in ((32, 32), (45, 61)):
        assert network(torch.rand(1, 2, *size)).shape == (1, 1, *size)


@pytest.fixture(scope="module")
def reference(tiny_network):
    """An input and what the tiny network makes of it."""
    image = torch.rand(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return image, tiny_network(image)


def test_clients_may_give_the_network_metadata(tiny_network, reference):
    image, fused = reference
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(tiny_network(MetaTensor(image))), fused)


@pytest.mark.parametrize("use_trace", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["script", "trace"])
def test_export_to_torchscript(bundle_dir, elsewhere, tiny, tiny_weights, reference, use_trace):
    commands.ckpt_export(
        net_id="network_def",
        filepath="model.ts",
        ckpt_file=str(tiny_weights),
        meta_file=str(bundle_dir / "configs" / "metadata.json"),
        config_file=str(bundle_dir / "configs" / "inference.json"),
        use_trace=use_trace,
        input_shape=[1, 2, 64, 64] if use_trace else None,
        **tiny,
    )
    image, fused = reference
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load("model.ts", _extra_files=extra)
    assert torch.allclose(exported(image), fused, atol=1e-5)
    assert all(len(text) > 500 for text in extra.values())


def test_load_from_another_folder(bundle_dir, elsewhere, tiny, tiny_weights, reference):
    root = shutil.copytree(bundle_dir, elsewhere / "zoo" / "fusion_2d", ignore=shutil.ignore_patterns("*.pt"))
    (root / "models").mkdir(exist_ok=True)
    shutil.copy(tiny_weights, root / "models" / "model.pt")
    image, fused = reference
    for name in FILES:
        network = commands.load(
            "fusion_2d", bundle_dir=root.parent, workflow_type=name, net_override=tiny, device="cpu"
        )
        with torch.no_grad():
            assert torch.equal(network.eval()(image), fused)


@pytest.mark.slow
def test_a_wrong_name_ends_the_program_with_one_line(bundle_dir, elsewhere, tiny):
    config = bundle_dir / "configs" / "train.json"
    code, text, last = run_program("run", "training", "--config_file", config, "--epochz", 3, cwd=elsewhere)
    assert code == 1
    assert last.startswith("error: override 'epochz': ")
    assert last.endswith("did you mean 'epochs'?")
    assert "Traceback" not in text
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_train_and_infer_as_programs(bundle_dir, elsewhere, tiny, datalist):
    configs = bundle_dir / "configs"
    sizes = [
        *settings(tiny),
        "--patch_size",
        "[32,32]",
        "--batch_size",
        4,
        "--val_fraction",
        0.2,
        "--datalist",
        datalist,
    ]
    out = elsewhere / "out"
    for run_id, epochs in ((["training"], 1), ([], 2)):
        code, text, _ = run_program(
            *["run", *run_id, "--meta_file", configs / "metadata.json", "--config_file", configs / "train.json"],
            *["--bundle_root", bundle_dir, "--output_dir", out, "--epochs", epochs, "--resume", "true", *sizes],
            cwd=elsewhere,
        )
        assert code == 0, text
        assert f"epoch {epochs}/{epochs}  loss " in text
    assert "resumed" in text

    for run_id in (["inference"], []):
        code, text, last = run_program(
            *["run", *run_id, "--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json"],
            *["--ckpt_path", out / "model.pt", "--output_dir", elsewhere / "fused", "--datalist", datalist],
            *settings(tiny),
            cwd=bundle_dir,
        )
        assert code == 0, text
        assert len(list((elsewhere / "fused").glob("p*_fused.png"))) == 10
        shutil.rmtree(elsewhere / "fused")

    (elsewhere / "empty.json").write_text('{"testing": []}')
    for given in (["--datalist", "empty.json"], ["--datalist", datalist, "--task", "ct"]):
        code, _, last = run_program(
            *["run", "--config_file", configs / "inference.json", "--bundle_root", bundle_dir],
            *["--ckpt_path", out / "model.pt", "--output_dir", "none", *given, *settings(tiny)],
            cwd=elsewhere,
        )
        assert code == 1
        assert last.startswith("error: ")
    assert not (elsewhere / "none").exists()


@pytest.mark.slow
def test_two_processes_train_and_resume(bundle_dir, elsewhere, tiny, datalist):
    configs = [str(bundle_dir / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    sizes = [
        *settings(tiny),
        "--patch_size",
        "[32,32]",
        "--batch_size",
        2,
        "--val_fraction",
        0.2,
        "--datalist",
        datalist,
    ]

    def train(folder, epochs):
        code, text, _ = run_program(
            *["--standalone", "--nproc_per_node", 2, "-m", "monai.bundle", "run", "training"],
            *["--config_file", configs, "--bundle_root", bundle_dir, "--output_dir", folder, "--epochs", epochs],
            *["--resume", "true", "--schedule_epochs", 2, *sizes],
            cwd=elsewhere,
            program=("-m", "torch.distributed.run"),
        )
        assert code == 0, text
        assert text.count(f"epoch {epochs}/{epochs}  loss") == 1
        return torch.load(elsewhere / folder / "checkpoint.pt", weights_only=True)

    whole = train("whole", 2)
    train("parts", 1)
    parts = train("parts", 2)
    assert all(torch.equal(whole["network"][name], parts["network"][name]) for name in whole["network"])
    first, second = (state["transforms"] for state in whole["random_states"])
    assert first != second


@pytest.mark.slow
def test_export_to_onnx(bundle_dir, elsewhere, tiny, tiny_weights, reference):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    commands.onnx_export(
        net_id="network_def",
        filepath="model.onnx",
        ckpt_file=str(tiny_weights),
        meta_file=str(bundle_dir / "configs" / "metadata.json"),
        config_file=str(bundle_dir / "configs" / "inference.json"),
        input_shape=[1, 2, 64, 64],
        **tiny,
    )
    image, fused = reference
    session = onnxruntime.InferenceSession("model.onnx")
    (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert torch.allclose(torch.from_numpy(result), fused, atol=1e-5)
