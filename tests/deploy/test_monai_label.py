"""The MONAI Label app behind its real server, asked over HTTP, in the environment of its own requirements."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from urllib import error, request

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline, spatial_first
from clinicalfmamba_nets.io import read_image, write_image

pytestmark = pytest.mark.slow
APP = Path(__file__).resolve().parents[2] / "deploy" / "monai_label"
AFFINE = np.array([[-0.9, 0.1, 0, 40], [0.1, 0.9, 0, -50], [0, 0, 5, 7], [0, 0, 0, 1.0]])


class Server:
    """A running server: `post(model, ...)` gives status and body."""

    def __init__(self, port, folder):
        self.url, self.folder = f"http://127.0.0.1:{port}", folder

    def get(self, path):
        with request.urlopen(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    def post(self, model, query="output=image", params=None, **files):
        boundary, parts = uuid.uuid4().hex, []
        for name, path in files.items():
            head = f'Content-Disposition: form-data; name="{name}"; filename="{path.name}"\r\n\r\n'
            parts.append(head.encode() + path.read_bytes())
        parts.append(b'Content-Disposition: form-data; name="params"\r\n\r\n' + json.dumps(params or {}).encode())
        body = b"".join(f"--{boundary}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{boundary}--".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        asked = request.Request(f"{self.url}/infer/{model}?{query}", body, headers)
        try:
            with request.urlopen(asked, timeout=120) as answer:
                return answer.status, answer.read()
        except error.HTTPError as refusal:
            return refusal.code, refusal.read()

    def refused(self, model="fusion_2d", query="output=image", params=None, **files):
        """Status and cause of a request that is to be refused."""
        status, body = self.post(model, query, params, **files)
        return status, json.loads(body)["detail"]


@pytest.fixture(scope="module")
def server(interpreter, toy_bundles, grading_model, shared_data, tmp_path_factory):
    """The app with random weights and a tiny grading on a free port of this machine; its data store holds one pair."""
    python = interpreter("monailabel.main", "CLINICALFMAMBA_LABEL_PYTHON")
    folder = tmp_path_factory.mktemp("label")
    app = shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("model", "logs", "bin", "__pycache__"))
    (folder / "studies").mkdir()
    (folder / "temporary").mkdir()
    for name in ("MRI", "CT"):
        shutil.copy(shared_data / "aanlib" / "CT-MRI" / name / "16003.png", folder / "studies" / f"{name.lower()}.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", folder / "studies"]
    command += ["--host", "127.0.0.1", "--port", port, "--conf", "models", "fusion_2d,fusion_3d,glioma_grading"]
    command += ["--conf", "grading_model", grading_model]
    environment = {**os.environ, "CLINICALFMAMBA_BUNDLES": str(toy_bundles), "TMPDIR": str(folder / "temporary")}
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment, cwd=folder)
    made = Server(port, folder)
    try:
        _wait(made, running)
        yield made
    finally:
        running.terminate()
        running.wait(30)


def _wait(server, running, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return server.get("/info/")
        except OSError:
            assert running.poll() is None, (server.folder / "log").read_text()
            time.sleep(0.5)
    raise AssertionError(f"no answer within {seconds} s: {(server.folder / 'log').read_text()}")


@pytest.fixture
def bundle(toy_bundles, monkeypatch):
    """`bundle(task, image, image2)`: what the bundle itself makes of two files."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))

    def fuse(task, image, image2, name="fusion_2d"):
        pair = {"image": str(image), "image2": str(image2)}
        return spatial_first(FusionPipeline(task, bundle=name)(pair)["pred"])

    return fuse


@pytest.fixture
def nifti_pair(shared_data, tmp_path):
    """A pair of 2D NIfTI files with a rotated grid, MRI as int16 in 0 to 1500."""
    folder = shared_data / "aanlib" / "CT-MRI"
    images = [read_image(folder / name / "16003.png")[0].astype(np.float32).T for name in ("MRI", "CT")]
    images[0] = np.rint(images[0] / images[0].max() * 1500)
    files = [tmp_path / "mri.nii.gz", tmp_path / "ct.nii.gz"]
    for file, image in zip(files, images, strict=True):
        nibabel.save(nibabel.Nifti1Image(image.astype(np.int16)[..., None], AFFINE), file)
    return files


def answered(server, tmp_path, ending, *arguments, model="fusion_2d", **files):
    """The image that a request gives."""
    status, body = server.post(model, *arguments, **files)
    assert status == 200, body
    path = tmp_path / f"answer{ending}"
    path.write_bytes(body)
    return read_image(path)


def test_the_server_lists_the_bundles(server):
    told = server.get("/info/")
    dimensions = {name: model["dimension"] for name, model in told["models"].items()}
    assert dimensions == {"fusion_2d": 2, "fusion_3d": 3, "glioma_grading": 3}
    assert told["models"]["glioma_grading"]["type"] == "classification"
    assert "ct_mri" in told["models"]["fusion_2d"]["config"]["task"]


def test_two_nifti_files_equal_the_bundle_and_keep_their_grid(server, bundle, nifti_pair, tmp_path):
    image, image2 = nifti_pair
    fused, meta = answered(server, tmp_path, ".nii.gz", "output=image", {"image2": str(image2)}, file=image)
    expected = bundle("ct_mri", image, image2)
    assert fused.squeeze().shape == expected.shape and np.ptp(fused) > 100
    assert np.abs(fused.squeeze() - expected).max() <= 0.5 and np.abs(meta["affine"] - AFFINE).max() < 1e-4
    uploaded, _ = answered(server, tmp_path, ".nii.gz", file=image, label=image2)
    assert np.array_equal(uploaded, fused)
    end = time.monotonic() + 20  # the server removes what it has sent
    while list((server.folder / "temporary").glob("*_fused*")):
        assert time.monotonic() < end, "the results stay in the server's temporary folder"
        time.sleep(0.1)


def test_one_stacked_file_equals_the_two(server, bundle, nifti_pair, tmp_path):
    arrays = [read_image(file)[0].squeeze() for file in nifti_pair]
    stacked = tmp_path / "both.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack(arrays, -1)[:, :, None].astype(np.int16), AFFINE), stacked)
    fused, meta = answered(server, tmp_path, ".nii.gz", file=stacked)
    assert np.abs(fused.squeeze() - bundle("ct_mri", *nifti_pair)).max() <= 0.5
    assert np.abs(meta["affine"] - AFFINE).max() < 1e-4


def test_png_of_the_data_store_and_uploaded_in_color(server, bundle, shared_data, tmp_path):
    store = server.folder / "studies"
    fused, _ = answered(server, tmp_path, ".png", "output=image&image=mri", {"image2": "ct"})
    assert np.array_equal(fused, np.rint(bundle("ct_mri", store / "mri.png", store / "ct.png")).clip(0, 255))
    folder = shared_data / "aanlib" / "SPECT-MRI"
    pair = folder / "MRI" / "3018.png", folder / "SPECT" / "3018.png"
    color, meta = answered(server, tmp_path, ".png", file=pair[0], label=pair[1])
    assert meta["color"] and np.abs(color - bundle("spect_mri", *pair)).max() <= 1


def test_volumes_are_served_by_their_own_bundle(server, bundle, shared_data, tmp_path):
    image, image2 = (shared_data / "bad" / "nifti" / "good_pair" / name for name in ("t2.nii.gz", "flair.nii.gz"))
    fused, meta = answered(server, tmp_path, ".nii.gz", model="fusion_3d", file=image, label=image2)
    source, place = read_image(image)
    expected = bundle("t2_flair", image, image2, "fusion_3d")
    assert fused.shape == source.shape and np.ptp(fused) > 0
    assert np.abs(fused - expected).max() <= 0.51 and np.array_equal(meta["affine"], place["affine"])
    stacked = tmp_path / "both.nii.gz"
    arrays = [read_image(path)[0] for path in (image, image2)]
    nibabel.save(nibabel.Nifti1Image(np.stack(arrays, -1), place["affine"]), stacked)
    both, _ = answered(server, tmp_path, ".nii.gz", model="fusion_3d", file=stacked)
    assert np.array_equal(both, fused)
    slices, _ = answered(server, tmp_path, ".nii.gz", model="fusion_2d", file=image, label=image2)
    assert slices.shape == source.shape and np.ptp(slices) > 0 and not np.array_equal(slices, fused)
    status, cause = server.refused("fusion_3d", file=image)
    assert status == 422 and "expected two images" in cause


def test_task_and_weights_are_told(server, bundle, tmp_path):
    params = {"image2": "ct", "task": "ct_mri_published", "device": "cpu"}
    status, body = server.post("fusion_2d", "output=json&image=mri", params)
    told = json.loads(body)
    assert status == 200 and told["task"] == "ct_mri_published" and len(told["weights_sha256"]) == 64
    fused, _ = answered(server, tmp_path, ".png", "output=image&image=mri", params)
    other, _ = answered(server, tmp_path, ".png", "output=image&image=mri", {"image2": "ct"})
    assert not np.array_equal(fused, other)


def test_a_glioma_is_graded_as_the_bundle_grades_it(server, grading_patient, graded_by_the_bundle, tmp_path):
    image, image2 = (Path(grading_patient[key]) for key in ("image", "image2"))
    volumes = [nibabel.load(path) for path in (image, image2)]
    both = np.stack([np.asarray(volume.dataobj) for volume in volumes], -1)
    nibabel.save(nibabel.Nifti1Image(both, volumes[0].affine), tmp_path / "both.nii.gz")
    given = [(None, {"file": image, "label": image2}), ({"image2": str(image2)}, {"file": image})]
    for params, files in (*given, (None, {"file": tmp_path / "both.nii.gz"})):
        status, body = server.post("glioma_grading", "output=json", params, **files)
        told = json.loads(body)
        assert status == 200, told
        scores = {item["label"]: item["score"] for item in told["prediction"]}
        assert scores["high"] == pytest.approx(graded_by_the_bundle["mean"], abs=1e-6)
        assert scores["low"] == pytest.approx(1 - scores["high"]) and told["label"] == max(scores, key=scores.get)
        assert told["greatest_of_slices"] == pytest.approx(graded_by_the_bundle["max"], abs=1e-6)
        assert told["slices"] == graded_by_the_bundle["slices"] and told["region"] == "whole brain"
        assert "not for diagnosis" in told["notice"] and len(told["weights_sha256"]) == 2
    status, body = server.post("glioma_grading", "output=image", file=image, label=image2)
    assert status == 200 and body.startswith(b"\x89PNG")


def test_what_cannot_be_graded_is_refused_with_the_cause(server, grading_patient, grading_model, nifti_pair):
    image, image2 = (Path(grading_patient[key]) for key in ("image", "image2"))
    status, cause = server.refused("glioma_grading", "output=json", file=image)
    assert status == 422 and cause.startswith("image: expected two images")
    status, cause = server.refused("glioma_grading", "output=json", file=nifti_pair[0], label=nifti_pair[1])
    assert status == 422 and "expected a volume" in cause
    weights = grading_model / "model.pt"
    weights.rename(grading_model / "hidden")
    try:
        status, cause = server.refused("glioma_grading", "output=json", file=image, label=image2)
    finally:
        (grading_model / "hidden").rename(weights)
    assert status == 422 and "expected weights of a trained grading network" in cause and "train first" in cause
    assert list((server.folder / "temporary").glob("*graded*")) == []


def test_what_cannot_be_fused_is_refused_with_the_cause(server, nifti_pair, shared_data, tmp_path):
    image, image2 = nifti_pair
    status, cause = server.refused(file=image)
    assert status == 422 and cause.startswith("image: expected two images") and str(server.folder) not in cause
    status, cause = server.refused(file=image, params={"image2": "absent"})
    assert status == 422 and "image2: expected an image of the data store" in cause and "absent" in cause
    (tmp_path / "cut.nii.gz").write_bytes(image2.read_bytes()[:2000])
    status, cause = server.refused(file=image, label=tmp_path / "cut.nii.gz")
    assert status == 422 and cause.startswith("image2: expected")
    write_image(tmp_path / "small.png", np.eye(8, dtype=np.uint8))
    status, cause = server.refused(query="output=image&image=mri", label=tmp_path / "small.png")
    assert status == 422 and "8 x 8" in cause
    series = next((shared_data / "dicom" / "ct_phantom_5mm").glob("*.dcm"))
    status, cause = server.refused(file=image, label=series)
    assert status == 422 and "found DICOM" in cause


@pytest.mark.parametrize(
    ("model", "params", "status", "words"),
    [
        ("fusion_2d", {"task": "x"}, 422, "one of ct_mri"),
        ("fusion_2d", {"device": "abacus"}, 422, "device 'abacus'"),
        ("fusion_2d", {"task": ["ct_mri"]}, 422, "task: expected a text, found ['ct_mri']"),
        ("fusion_2d", {"task": 0}, 422, "task: expected a text, found 0"),
        ("fusion_2d", {"device": 0}, 422, "device: expected a text, found 0"),
        ("glioma_grading", {"device": True}, 422, "device: expected a text, found True"),
        ("fusion_2d", {"image2": 7}, 422, "found 7"),
        ("fusion_2d", {"window_b": 0}, 422, "window: expected"),
        ("fusion_2d", {"window_a": "$1 / 0"}, 422, "which a bundle would run"),
        ("fusion_2d", {"allow_partial": "$1 / 0"}, 422, "which a bundle would run"),
        ("fusion_2d", {"window_a": ["brain"]}, 422, "window: expected"),
        ("fusion_9d", {}, 404, "expected one of fusion_2d, fusion_3d"),
    ],
)
def test_wrong_settings_are_refused(server, model, params, status, words):
    told = server.refused(model, "output=image&image=mri", {"image2": "ct", **params})
    assert told[0] == status and words in told[1]


def test_a_bundle_that_is_not_served_is_told_at_the_start(interpreter, toy_bundles, tmp_path):
    python = interpreter("monailabel.main", "CLINICALFMAMBA_LABEL_PYTHON")
    code = f"import sys; sys.path.insert(0, {str(APP)!r}); import main; main.ClinicalFMambaApp({str(APP)!r}, '.', "
    code += "{'models': 'fusion_2d,other'})"
    environment = {**os.environ, "CLINICALFMAMBA_BUNDLES": str(toy_bundles)}
    command = [python, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (
        done.returncode
        and "--conf models other: expected a bundle that is served, found fusion_2d, fusion_3d" in done.stderr
    )
