"""Where the tests find real data: CLINICALFMAMBA_DATA, else shared/data beside the checkout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """What a run of the command line left: exit code and text."""

    code: int
    out: str
    err: str

    @property
    def cause(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def _shared_data() -> Path:
    return Path(os.environ.get("CLINICALFMAMBA_DATA") or CHECKOUT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real pairs, volumes and malformed inputs; where it is absent the test is skipped and says so."""
    folder = _shared_data()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set CLINICALFMAMBA_DATA to the folder that holds aanlib/ and bad/")
    return folder


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """Folder with reference outputs of the published network, beside the data folder."""
    folder = _shared_data().parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden cases at {folder}: set CLINICALFMAMBA_DATA to a data folder with golden/ beside it")
    return folder


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout."""
    return CHECKOUT


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process: `run_cli("fuse", a, b, "-o", out)` gives code, stdout and stderr."""
    from clinicalfmamba_nets.cli import main

    def run(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def toy_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the fusion bundles with random weights for every task: for tests of the way, not of results.

    The network for volumes is a small one.
    """
    import torch
    from monai.bundle import ConfigParser

    folder = tmp_path_factory.mktemp("bundles")
    for name, sizes in (("fusion_2d", {}), ("fusion_3d", {"features": 4, "dim": 16, "depth": 1})):
        source = CHECKOUT / "bundles" / name
        root = shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.pt", "*.ts", "output", "eval"))
        (root / "models").mkdir(exist_ok=True)
        config = root / "configs" / "inference.json"
        content = json.loads(config.read_text()) | sizes
        config.write_text(json.dumps(content))
        for seed, task in enumerate(content["graphs"]):
            torch.manual_seed(seed)
            parser = ConfigParser()
            parser.read_config(str(config))
            parser.update({"bundle_root": str(root), "task": task})
            torch.save(parser.get_parsed_content("network_def").state_dict(), parser.get_parsed_content("ckpt_path"))
    return folder


@pytest.fixture
def toy_cli(
    run_cli: Callable[..., Outcome], toy_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """`run_cli` with the bundles of `toy_bundles`."""
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(toy_bundles))
    return run_cli
