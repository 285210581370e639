"""Exported programs: right at every size and batch, with their facts, refused where they cannot run."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export.pt2_archive import _package

from clinicalfmamba_nets.engine.exporting import torch_programs
from clinicalfmamba_nets.engine.exporting.facts import FACTS_FILE, OPERATORS_VERSION, facts_of
from clinicalfmamba_nets.engine.exporting.loading import load_program, read_facts
from clinicalfmamba_nets.engine.exporting.onnx_program import quiet_exporter, save_with_facts
from clinicalfmamba_nets.engine.exporting.write import copy_library, export_network
from clinicalfmamba_nets.engine.run.weights import damaged_part
from clinicalfmamba_nets.errors import FusionInputError, FusionWarning
from clinicalfmamba_nets.nets import clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.ops import native

pytestmark = [
    pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}"),
    pytest.mark.filterwarnings("ignore"),  # of torch's exporters and loaders
]
TINY = {"features": 4, "dim": 32, "depth": 1, "d_state": 4}
NETWORKS = {
    "mix": lambda: clinicalfmamba_2d(**TINY, decoder_depth=1, head="mix"),
    "gain": lambda: clinicalfmamba_2d(**TINY, decoder_depth=1, head="gain", num_down=2),
    "3d": lambda: clinicalfmamba_3d(**TINY, head="gain"),
}
SIZES = {
    "mix": ((1, 64, 48), (3, 45, 61)),
    "gain": ((1, 31, 64), (3, 64, 40)),
    "3d": ((1, 24, 17, 32), (2, 16, 24, 16)),
}
compiles = pytest.mark.skipif(
    not os.environ.get("CLINICALFMAMBA_COMPILE"),
    reason="compiling by AOTInductor takes minutes to an hour: set CLINICALFMAMBA_COMPILE=1 to try it",
)
CASES = [
    pytest.param("mix", "ts", False, id="ts"),
    pytest.param("gain", "ts", True, id="portable ts"),
    pytest.param("3d", "ts", False, id="ts 3d"),
    pytest.param("gain", "pt2", True, id="portable pt2", marks=pytest.mark.slow),
    *(
        pytest.param(*case, id=" ".join(map(str, case)), marks=pytest.mark.hour)
        for case in [
            ("mix", "pt2", False),
            ("3d", "pt2", False),
            ("mix", "onnx", False),
            ("3d", "onnx", False),
            ("3d", "ts", True),
        ]
    ),
    pytest.param("mix", "aoti", False, id="mix aoti False", marks=[pytest.mark.hour, compiles]),
]


def network_of(name: str) -> torch.nn.Module:
    """A tiny network with random weights."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def export(name: str, file_format: str, folder, portable: bool = False):
    """Export a tiny network; returns it and the path."""
    network = network_of(name)
    bundle = "fusion_3d" if name == "3d" else "fusion_2d"
    return network, export_network(
        network, "t2_flair", bundle, file_format, folder / f"program.{file_format}", portable
    )


def images_of(name: str) -> list[torch.Tensor]:
    """Batches of several sizes."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(batch, 2, *sizes, generator=generator) for batch, *sizes in SIZES[name]]


@pytest.mark.parametrize(("name", "file_format", "portable"), CASES)
def test_a_program_gives_what_the_network_gives_at_every_size(name, file_format, portable, tmp_path) -> None:
    network, path = export(name, file_format, tmp_path, portable)
    program = load_program(path)
    assert program.facts.operators_version == (0 if portable else OPERATORS_VERSION)
    assert (program.facts.format, program.facts.task) == (file_format, "t2_flair")
    for image in images_of(name):
        with torch.no_grad():
            torch.testing.assert_close(program(image), network(image), atol=2e-5, rtol=0)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    if file_format == "pt2":  # by torch alone, one pair too
        found = torch.export.load(str(path)).module()(image[:1])  # in a host that does not switch gradients off
        with torch.no_grad():
            torch.testing.assert_close(found, network(image[:1]), atol=2e-5, rtol=0)


def test_the_operators_are_in_the_graph_and_their_absence_in_the_portable_one(tmp_path) -> None:
    for portable in (False, True):
        _, path = export("mix", "ts", tmp_path, portable)
        with zipfile.ZipFile(path) as archive:
            text = " ".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".py"))
        assert ("ops.clinicalfmamba." in text) != portable


def test_a_recorded_program_cuts_what_was_added_without_a_copy(tmp_path) -> None:
    _, path = export("mix", "ts", tmp_path)
    with zipfile.ZipFile(path) as archive:
        text = " ".join(archive.read(name).decode() for name in archive.namelist() if name.endswith(".py"))
    assert re.search(r"torch\.narrow\(\w+, 2, 0, ", text) and "torch.index_select(" not in text


def test_another_format_size_or_kind_of_number_is_refused(tmp_path) -> None:
    network, path = export("mix", "ts", tmp_path)
    program = load_program(path)
    with pytest.raises(FusionInputError, match="sizes of 8 or more"):
        program(torch.rand(1, 2, 7, 64))
    with pytest.raises(FusionInputError, match="expected float32 on the processor, found float64"):
        program(torch.rand(1, 2, 64, 64).double())
    for wrong in ((1, 3, 64, 64), (1, 1, 64, 64), (2, 64, 64), (1, 2, 64, 64, 8), (0, 2, 64, 64)):
        with pytest.raises(FusionInputError, match=r"expected float32 \(B, 2, H, W\) in \[0, 1\].* found shape"):
            program(torch.rand(wrong))
    with pytest.raises(FusionInputError, match="expected a tensor, found a ndarray"):
        program(np.zeros((1, 2, 64, 64), np.float32))
    with pytest.raises(FusionInputError, match="one of ts, pt2, aoti, onnx"):
        export_network(network, "t2_flair", "fusion_2d", "exe", tmp_path / "x")
    with pytest.raises(FusionInputError, match="runs without the library too"):
        export_network(network, "t2_flair", "fusion_2d", "onnx", tmp_path / "x", portable=True)


@pytest.mark.parametrize("file_format", ["ts", pytest.param("onnx", marks=pytest.mark.hour)])
def test_a_pair_counts_by_its_numbers_and_in_its_own_precision(file_format, tmp_path) -> None:
    program, pair = load_program(export("mix", file_format, tmp_path)[1]), torch.rand(1, 2, 24, 24)
    expected = program(pair)
    for same in (torch._neg_view(-pair), pair.clone().requires_grad_(), pair.to_sparse()):
        assert torch.equal(program(same), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(program(pair), expected)


@pytest.mark.parametrize("white", [255.0, float("nan")])
def test_values_that_no_program_knows_warn(white, tmp_path) -> None:
    program = load_program(export("mix", "ts", tmp_path)[1])
    with pytest.warns(FusionWarning, match="image: expected values from 0 to 1, found"):
        program(torch.rand(1, 2, 16, 16) * white)


def test_torch_has_nothing_to_say_of_the_name_of_an_unfinished_file(tmp_path, monkeypatch) -> None:
    written = torch.export.export(torch.nn.ReLU(), (torch.rand(2),))
    monkeypatch.setattr(torch_programs, "exported_program", lambda network, facts: written)
    said: list[str] = []
    monkeypatch.setattr(_package.logger, "warning", lambda words, *rest: said.append(words))
    facts = facts_of(network_of("mix"), "t2_flair", "fusion_2d", "pt2", portable=True)
    torch_programs.write_exported(torch.nn.ReLU(), facts, tmp_path / ".half.tmp")
    assert said == [] and read_facts(tmp_path / ".half.tmp") == facts


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is there: no warnings")
def test_torch_does_not_warn_of_torchvision(monkeypatch) -> None:
    _registration = pytest.importorskip("torch.onnx._internal.exporter._registration", reason="no onnxscript")
    told: list[logging.LogRecord] = []
    monkeypatch.setattr(_registration.logger, "handle", told.append)
    with quiet_exporter():
        _registration.ONNXRegistry.from_torchlib()
    assert told == []
    _registration.ONNXRegistry.from_torchlib()
    assert any("torchvision" in record.getMessage() for record in told)


def test_files_that_are_no_program_are_refused(tmp_path) -> None:
    plain = tmp_path / "plain.ts"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), plain)
    with pytest.raises(FusionInputError, match="expected a program of clinicalfmamba export"):
        load_program(plain)


@pytest.mark.parametrize("read", [load_program, read_facts])
def test_what_is_no_path_is_no_program(read, tmp_path) -> None:
    for given in (5, None, b"program.ts", torch.nn.ReLU()):
        with pytest.raises(FusionInputError, match="^program: expected the path of an exported program, found "):
            read(given)
    with pytest.raises(FusionInputError, match="no such file"):
        read(str(tmp_path / "nothing.ts"))


def damage(path) -> str:
    """Change one byte of the largest part of an archive that is not compressed; returns the part's name."""
    with zipfile.ZipFile(path) as archive:
        stored = [item for item in archive.infolist() if item.compress_type == zipfile.ZIP_STORED]
    largest = max(stored, key=lambda item: item.file_size)
    content = bytearray(Path(path).read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 64
    Path(path).write_bytes(content)
    return largest.filename


def test_a_program_with_a_damaged_byte_is_refused(tmp_path) -> None:
    """torch itself loads it, with another weight."""
    _, path = export("mix", "ts", tmp_path)
    part = damage(path)
    with pytest.raises(FusionInputError, match=f"a whole program, found {re.escape(part)} damaged"):
        load_program(path)


def test_a_damaged_table_of_contents_is_told_in_one_line(tmp_path, checkout) -> None:
    """Its bytes read as an encrypted part, another compression, a name of no letters, a place before the file."""
    shutil.copy(checkout / "deploy" / "programs" / "run_program.py", tmp_path)
    host = runpy.run_path(str(tmp_path / "run_program.py"))
    path = tmp_path / "program.ts"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"program/extra/{FACTS_FILE}", "{}")
        archive.writestr("program/data/0", bytes(64))
    whole, refused = path.read_bytes(), set()
    for place in range(whole.index(b"PK\1\2") + 4, len(whole) - 22):
        for bit in (1, 8, 128):
            content = bytearray(whole)
            content[place] ^= bit
            path.write_bytes(content)
            with pytest.raises(FusionInputError) as caught:
                load_program(path)
            refused.add(str(caught.value).split("found ")[1].split("(")[0])
            if damaged := host["damaged_part"](path):
                assert damaged == damaged_part(path)
    assert any(words.startswith("its table of contents") for words in refused)


def tiny_onnx(path, network) -> np.ndarray:
    """An ONNX file of one sum, with facts and checksum; returns its weights."""
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).random(256, np.float32)
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", 256]) for name in ("image", "pred")]
    node = onnx.helper.make_node("Add", ["image", "weights"], ["pred"])
    graph = onnx.helper.make_graph(
        [node], "sum", *([side] for side in sides), [onnx.numpy_helper.from_array(weights, "weights")]
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])
    save_with_facts(model, facts_of(network, "t2_flair", "fusion_2d", "onnx", portable=True), path)
    return weights


def test_an_onnx_program_with_a_damaged_byte_is_refused(tmp_path, checkout) -> None:
    path = tmp_path / "program.onnx"
    weights = tiny_onnx(path, network_of("mix"))
    pytest.importorskip("onnxruntime")
    assert load_program(path).facts.format == "onnx"
    content = bytearray(path.read_bytes())
    content[content.index(weights.tobytes()) + 100] ^= 64
    path.write_bytes(content)
    with pytest.raises(FusionInputError, match="a whole program, found its graph or weights damaged"):
        load_program(path)
    shutil.copy(checkout / "deploy" / "programs" / "run_program.py", tmp_path)
    np.save(tmp_path / "pair.npy", np.zeros((1, 256), np.float32))
    done = plain_host(path, "--pair", "pair.npy", "-o", "fused.npy", cwd=tmp_path)
    assert done.returncode == 1 and "found its graph or weights damaged" in done.stderr


def test_facts_without_a_program_are_refused(tmp_path) -> None:
    network = network_of("mix")
    for change, told in (({}, "in the form of TorchScript"), ({"format": "exe"}, "one of the formats ts, pt2")):
        facts = json.loads(facts_of(network, "t2_flair", "fusion_2d", "ts", portable=True).text())
        with zipfile.ZipFile(tmp_path / "program.ts", "w") as archive:
            archive.writestr(f"program/extra/{FACTS_FILE}", json.dumps(facts | {"of a later version": 1} | change))
        with pytest.raises(FusionInputError, match=told) as caught:
            load_program(tmp_path / "program.ts")
        assert "\n" not in str(caught.value)


def test_what_is_no_program_is_not_written_over(tmp_path) -> None:
    network, path = export("mix", "ts", tmp_path)
    weights = tmp_path / "model.pt"
    torch.save(network.state_dict(), weights)
    before = weights.read_bytes()
    with pytest.raises(FusionInputError, match="model.pt: expected a free name, or an earlier program"):
        export_network(network, "t2_flair", "fusion_2d", "ts", weights)
    assert weights.read_bytes() == before
    export_network(network, "t2_flair", "fusion_2d", "ts", path, portable=True)
    assert read_facts(path).operators_version == 0


def change_facts(path, **changes) -> None:
    """Write other facts into a TorchScript file."""
    extra = {FACTS_FILE: ""}
    program = torch.jit.load(path, _extra_files=extra)
    extra[FACTS_FILE] = json.dumps({**json.loads(extra[FACTS_FILE]), **changes})
    torch.jit.save(program, path, _extra_files=extra)


def test_operators_of_a_later_version_are_refused(tmp_path) -> None:
    _, path = export("mix", "ts", tmp_path)
    change_facts(path, operators_version=99)
    with pytest.raises(FusionInputError, match="found version 99; install a newer clinicalfmamba"):
        load_program(path)


def test_without_the_library_the_loader_says_so(tmp_path, monkeypatch) -> None:
    _, path = export("mix", "ts", tmp_path)
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(native, "reason", lambda: "switched off")
    with pytest.raises(FusionInputError, match="expected the operators' library, found switched off"):
        load_program(path)


def test_a_compiled_program_of_another_processor_is_refused(tmp_path, monkeypatch) -> None:
    _, path = export("mix", "ts", tmp_path)
    change_facts(path, format="aoti", processor="AVX1024")
    with pytest.raises(FusionInputError, match="expected a processor with AVX1024"):
        load_program(path)


def plain_host(*words, cwd) -> subprocess.CompletedProcess:
    """Run the example that does without this package, in an interpreter that cannot import it."""
    script = cwd / "run_program.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    blocked = f"import sys, runpy; sys.modules['clinicalfmamba_nets'] = None; sys.argv[0] = {str(script)!r}; "
    code = blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.hour
@pytest.mark.parametrize("file_format", ["ts", "pt2", pytest.param("aoti", marks=compiles), "onnx"])
def test_a_plain_host_runs_every_format(file_format, tmp_path, checkout) -> None:
    network, path = export("mix", file_format, tmp_path)
    shutil.copy(checkout / "deploy" / "programs" / "run_program.py", tmp_path)
    library = copy_library(tmp_path, "onnxruntime" if file_format == "onnx" else "torch")
    image = images_of("mix")[1]
    np.save(tmp_path / "pair.npy", image.numpy())
    words = [path, "--pair", "pair.npy", "-o", "fused.npy"]
    done = plain_host(*words, "--library", library, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = network(image)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "fused.npy")), expected, atol=2e-5, rtol=0)
    (tmp_path / "fused.npy").unlink()
    done = plain_host(*words, cwd=tmp_path)
    if file_format == "onnx":  # its functions stand in for the operators
        torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "fused.npy")), expected, atol=1e-4, rtol=0)
    else:
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"expected the operators' library, version {OPERATORS_VERSION}, found none" in done.stderr


def refused_pairs():
    """What is wrong with a batch, and the words that tell it."""
    pair = images_of("mix")[0].numpy()
    return {
        "three channels": (pair[:, [0, 1, 0]], "expected float32 (B, 2, H, W) in [0, 1]: "),
        "one image": (pair[0], "found shape (2, 64, 48)"),
        "empty": (pair[:0], "found shape (0, 2, 64, 48)"),
        "too small": (pair[..., :7], "expected sizes of 8 or more"),
        "8 bits": ((255 * pair).astype(np.uint8), "found uint8; scale it to [0, 1]"),
        "up to 255": (255 * pair, "pair.npy: expected values from 0 to 1, found "),
        "NaN": (pair * np.nan, "expected values from 0 to 1, found nan to nan"),
        "complex": (pair.astype(np.complex64), "found complex64"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("fault", refused_pairs())
def test_a_plain_host_refuses_what_the_program_does_not_take(fault, tmp_path, checkout) -> None:
    _, path = export("mix", "ts", tmp_path)
    shutil.copy(checkout / "deploy" / "programs" / "run_program.py", tmp_path)
    array, words = refused_pairs()[fault]
    np.save(tmp_path / "pair.npy", array)
    given = [path, "--library", native.library_path("torch"), "--pair", "pair.npy", "-o", "fused.npy"]
    done = plain_host(*given, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "fused.npy").exists()


@pytest.mark.slow
def test_a_plain_host_tells_wrong_files_in_one_line(tmp_path, checkout) -> None:
    _, path = export("mix", "ts", tmp_path)
    shutil.copy(checkout / "deploy" / "programs" / "run_program.py", tmp_path)
    np.save(tmp_path / "pair.npy", images_of("mix")[0].numpy())
    (tmp_path / "text").write_text("no program")
    (tmp_path / "half.ts").write_bytes(path.read_bytes()[:20000])
    damage(shutil.copy(path, tmp_path / "damaged.ts"))
    library, pair = native.library_path("torch"), tmp_path / "pair.npy"
    program = "expected a program of clinicalfmamba export, found "
    for words, told in [
        ((tmp_path / "nothing.ts", library, pair, "f.npy"), program + "no such file"),
        ((tmp_path / "half.ts", library, pair, "f.npy"), "half.ts: " + program + "another file, or a part"),
        ((tmp_path / "damaged.ts", library, pair, "f.npy"), "damaged.ts: expected a whole program, found "),
        ((tmp_path / "text", library, pair, "f.npy"), "text: " + program + "another file, or a part of one"),
        (
            (path, tmp_path / "text", pair, "f.npy"),
            f"text: expected the operators' library, version {OPERATORS_VERSION}, found",
        ),
        ((path, native.library_path("onnxruntime"), pair, "f.npy"), "found a library without them"),
        ((path, library, tmp_path / "text", "f.npy"), "text: expected numbers in a .npy file, found "),
        ((path, library, tmp_path / "nothing.npy", "f.npy"), "nothing.npy: expected numbers in a .npy file, found "),
        ((path, library, pair, "nowhere/f.npy"), "nowhere/f.npy: expected a file that can be written, found No such"),
    ]:
        done = plain_host(words[0], "--library", words[1], "--pair", words[2], "-o", words[3], cwd=tmp_path)
        assert done.returncode == 1 and told in done.stderr.splitlines()[-1], done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / words[3]).exists()
    before = pair.read_bytes()
    done = plain_host(path, "--library", library, "--pair", pair, "-o", pair, cwd=tmp_path)
    assert done.returncode == 1 and "found one of the inputs" in done.stderr and pair.read_bytes() == before


@pytest.mark.hour
def test_a_host_in_cpp_runs_a_program(tmp_path, checkout) -> None:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("no cmake or no C++ compiler on this machine")
    network, path = export("mix", "ts", tmp_path)
    library = copy_library(tmp_path)
    source, build = checkout / "deploy" / "programs" / "cpp", tmp_path / "build"
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (["cmake", "-S", source, "-B", build, prefix], ["cmake", "--build", build]):
        made = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    image = images_of("mix")[1]
    words = [str(build / "run_program"), str(path), str(library), *map(str, (image.shape[0], *image.shape[2:]))]
    done = subprocess.run(words, input=image.numpy().tobytes(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = network(image)
    fused = torch.frombuffer(bytearray(done.stdout), dtype=torch.float32).view(expected.shape)
    torch.testing.assert_close(fused, expected, atol=2e-5, rtol=0)
    for numbers, told in [
        (image.numpy()[..., :-1].copy(), b"float32 numbers on the standard input, found fewer"),
        (np.concatenate([image.numpy()] * 2), b"float32 numbers on the standard input, found more"),
        (255 * image.numpy(), b"error: expected values from 0 to 1, found "),
        (np.nan * image.numpy(), b"nan to "),
    ]:
        done = subprocess.run(words, input=numbers.tobytes(), capture_output=True, timeout=300)
        assert done.returncode == 1 and told in done.stderr and done.stdout == b""
    words[2] = "-"
    done = subprocess.run(words, input=image.numpy().tobytes(), capture_output=True, text=False, timeout=300)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"expected the operators' library" in done.stderr
