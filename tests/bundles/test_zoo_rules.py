"""What MONAI's model zoo asks of a bundle, as far as it needs no network, and the ways in which bundles travel.

The rules are those of the zoo's guide for contributors and of the checks that it runs on a bundle.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import types
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = ("fusion_2d", "fusion_3d", "glioma_grading")
WITH_WEIGHTS = NAMES[:2]
TEXTS = {".json", ".md", ".txt", ".conf", ""}
ONE_FILE = 25 * 2**20


@pytest.fixture(params=NAMES)
def bundle(request):
    """Folder of each bundle."""
    return BUNDLES / request.param


def texts(bundle: Path) -> list[Path]:
    """Text files of a bundle that are not results."""
    folders = ("configs", "configs/peers", "docs", "datalists")
    files = [path for name in folders for path in bundle.glob(f"{name}/*")] + [bundle / "LICENSE"]
    return [path for path in files if path.suffix in TEXTS and path.is_file()]


def read(bundle: Path, name: str) -> dict:
    """A configuration."""
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def has(content: dict, path: str) -> bool:
    """Whether a configuration defines an id such as `train::dataset::data`."""
    for part in path.split("::"):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def test_necessary_and_preferred_files(bundle):
    for name in ("configs/metadata.json", "LICENSE", "configs/inference.json", "docs/data_license.txt"):
        assert (bundle / name).is_file(), name
    assert (bundle / "models" / "model.pt").is_file() == (bundle.name in WITH_WEIGHTS)
    assert all(path.stat().st_size <= ONE_FILE for path in bundle.rglob("*") if path.is_file())


def test_version_has_its_line_in_the_changelog(bundle):
    metadata = read(bundle, "metadata")
    versions = list(metadata["changelog"])
    assert metadata["version"] == versions[0] and all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")], reverse=True)
    assert all(line and "\n" not in line for line in metadata["changelog"].values())


def test_named_releases_are_to_be_had_for_the_oldest_python(bundle, checkout):
    metadata = read(bundle, "metadata")
    named = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    named |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    named.pop("clinicalfmamba-nets")
    pins = (checkout / "requirements.txt").read_text().splitlines()
    for name, version in named.items():
        (pin,) = [line for line in pins if line.startswith(f"{name}==") and '>= "3.11"' not in line]
        assert pin.split(";")[0].strip() == f"{name}=={version}"


def test_ids_that_the_zoo_asks_for(bundle):
    inference = read(bundle, "inference")
    for name in ("bundle_root", "device", "network_def", "inferer", "output_dir"):
        assert name in inference, name
    for config in ("train", "train_fusion"):
        if not (bundle / "configs" / f"{config}.json").is_file():
            continue
        train = read(bundle, config)
        for name in ("bundle_root", "device", "dataset_dir", "output_dir", "val_interval"):
            assert name in train, name
        for name in (
            "trainer",
            "trainer::max_epochs",
            "dataset",
            "dataset::data",
            "handlers",
            "inferer",
            "preprocessing",
        ):
            assert has(train["train"], name), name
        for name in ("evaluator", "handlers", "dataset", "dataset::data", "inferer", "preprocessing", "key_metric"):
            assert has(train["validate"], name), name
        assert train["validate"]["evaluator"]["val_handlers"] == "@validate::handlers"
        (validation,) = [one for one in train["train"]["handlers"] if one["_target_"] == "ValidationHandler"]
        assert validation["interval"] == "@val_interval"


def test_text_files_are_as_the_zoo_formats_them(bundle):
    for path in texts(bundle):
        content = path.read_text(encoding="utf-8")
        assert "\r" not in content and not re.search(r"[ \t]+$", content, re.MULTILINE), path
        assert content.endswith("\n") and not content.endswith("\n\n"), path
        assert not re.search(r"(?:/home/|/Users/|C:\\\\)\w", content), path
        if path.suffix == ".json":
            assert content == json.dumps(json.loads(content), indent=4) + "\n", path


def test_large_files_are_described_as_the_zoo_reads_them(checkout):
    yaml = pytest.importorskip("yaml", reason="the zoo's list of large files is YAML")
    page = (checkout / "docs" / "reference" / "bundles.md").read_text()
    (listed,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    files = yaml.safe_load(listed)["large_files"]
    assert all({"path", "url"} <= set(one) <= {"path", "url", "hash_val", "hash_type"} for one in files)
    assert all((BUNDLES / "fusion_2d" / one["path"]).is_file() and one["hash_type"] == "sha256" for one in files)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A stand-in for a hub: a folder of ZIP archives served on this machine, and the bundle that lies in it."""
    root = tmp_path_factory.mktemp("hub")
    folder = root / "bundles" / "fusion_2d"
    ignored = shutil.ignore_patterns("model_*.pt", "output", "eval", "*.ts")
    shutil.copytree(BUNDLES / "fusion_2d", folder, ignore=ignored)
    shutil.make_archive(str(root / "served" / "fusion_2d_v0.2.0"), "zip", root / "bundles", "fusion_2d")

    class Quiet(SimpleHTTPRequestHandler):
        """Serves files and writes no log."""

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_downloaded_bundle_gives_its_network(hub, tmp_path, monkeypatch):
    import monai.bundle
    import torch

    monkeypatch.setattr("monai.bundle.scripts._check_monai_version", lambda *_: None)
    monai.bundle.download(
        name="fusion_2d", url=f"{hub[1]}/fusion_2d_v0.2.0.zip", bundle_dir=str(tmp_path), progress=False
    )
    assert (tmp_path / "fusion_2d" / "configs" / "metadata.json").is_file()
    loaded = monai.bundle.load(
        "fusion_2d", bundle_dir=str(tmp_path), workflow_type="inference", source="github", device="cpu"
    )
    weights = torch.load(hub[0] / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert loaded.eval()(torch.rand(1, 2, 32, 32)).shape == (1, 1, 32, 32)


def test_what_is_pushed_to_a_hub_comes_back(hub, tmp_path, monkeypatch):
    import monai.bundle

    store = tmp_path / "store"

    class Api:
        """Keeps what is uploaded in a folder."""

        def __init__(self, token: str | None = None) -> None:
            self.tags: list[str] = []

        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            """Make a folder for a repository."""
            (store / repo_id).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            """Copy a folder into it."""
            return str(shutil.copytree(folder_path, store / repo_id, dirs_exist_ok=True))

        def create_tag(self, repo_id: str, tag: str, exist_ok: bool) -> None:
            """Name a version."""
            (store / repo_id / f".tag_{tag}").touch(exist_ok=exist_ok)

    def snapshot(repo_id: str, revision: str, local_dir: str) -> None:
        assert (store / repo_id / f".tag_{revision}").is_file()
        shutil.copytree(store / repo_id, local_dir)

    stand_in = types.SimpleNamespace(HfApi=Api, snapshot_download=snapshot)
    monkeypatch.setattr(sys.modules["monai.bundle.scripts"], "huggingface_hub", stand_in)
    monkeypatch.setattr("monai.bundle.scripts._check_monai_version", lambda *_: None)
    copy = shutil.copytree(hub[0].parent, tmp_path / "mine")
    monai.bundle.push_to_hf_hub("someone/fusion_2d", "fusion_2d", str(copy), version="0.2.0")
    card = (store / "someone" / "fusion_2d" / "README.md").read_text()
    assert "license: apache-2.0" in card and "# Model Overview" in card
    there = tmp_path / "there"
    there.mkdir()
    monai.bundle.download(
        "fusion_2d", version="0.2.0", bundle_dir=str(there), source="huggingface_hub", repo="someone/fusion_2d"
    )
    assert (there / "fusion_2d" / "models" / "model.pt").stat().st_size == (hub[0] / "models/model.pt").stat().st_size
