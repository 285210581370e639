"""Ten small phantom pairs, and sizes that make a run of the bundle a matter of a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clinicalfmamba_nets.data import write_phantom_pair

CASES = 10
SIZE = 48
TINY = {"features": 4, "dim": 16, "depth": 1, "decoder_depth": 1, "d_state": 4}
TINY_TRAINING = {
    **TINY,
    "patch_size": [32, 32],
    "batch_size": 4,
    "val_fraction": 0.2,
    "learning_rate": 0.01,
    "val_interval": 1,
    **dict.fromkeys(("window_prob", "contrast_prob", "spot_prob"), 0.0),
    "device": torch.device("cpu"),
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks are faster, and the same on every machine, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bundle_dir(checkout: Path) -> Path:
    """Folder of the 2D bundle."""
    return checkout / "bundles" / "fusion_2d"


def write_pairs(folder: Path, task: str = "ct_mri") -> Path:
    """Write ten phantom pairs and their data list; every file bears the same name as those of the other cases."""
    entries = []
    for seed in range(CASES):
        mri, second = write_phantom_pair(folder / f"case{seed}", task, SIZE, seed)
        entries.append(
            {"image": str(mri.relative_to(folder)), "image2": str(second.relative_to(folder)), "case": f"p{seed}"}
        )
    path = folder / "datalist.json"
    path.write_text(json.dumps({"training": entries, "testing": entries}))
    return path


@pytest.fixture(scope="session")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data list of ten CT-MRI pairs of 48 x 48 pixels."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def color_datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data list of ten SPECT-MRI pairs, the SPECT in color."""
    return write_pairs(tmp_path_factory.mktemp("color"), "spect_mri")


@pytest.fixture(scope="session")
def tiny() -> dict[str, int]:
    """Settings of a tiny network."""
    return TINY


@pytest.fixture(scope="session")
def tiny_training(datalist: Path) -> dict[str, object]:
    """Settings of a training that takes a second."""
    return {**TINY_TRAINING, "datalist": str(datalist)}


@pytest.fixture(scope="session")
def tiny_network(bundle_dir: Path) -> torch.nn.Module:
    """The network of the default task in its tiny form, with random weights."""
    from monai.bundle import ConfigParser

    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(str(bundle_dir / "configs" / "inference.json"))
    parser.update(TINY)
    return parser.get_parsed_content("network_def").eval()


@pytest.fixture(scope="session")
def tiny_weights(tiny_network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File with the weights of the tiny network."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(tiny_network.state_dict(), path)
    return path
