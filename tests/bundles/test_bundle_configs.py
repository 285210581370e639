"""The style of the configurations and what they must have in common."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

import clinicalfmamba_nets

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
CONFIGS = sorted([*BUNDLES.glob("*/configs/*.json"), *BUNDLES.glob("*/configs/peers/*.json")])
FUSION = ("fusion_2d", "fusion_3d")
NAMES = ("evaluate.json", "inference.json", "metadata.json", "multi_gpu_train.json", "train.json")
SIZES = ("patch_size", "epochs", "batch_size", "num_workers", "seed", "learning_rate", "val_interval")
NETWORK = ("features", "dim", "depth", "decoder_depth", "d_state", "graphs", "graph", "network_def", "network")


@pytest.fixture(params=FUSION)
def bundle(request):
    """Folder of each fusion bundle in turn."""
    return BUNDLES / request.param


@pytest.fixture
def read(bundle):
    """Read a configuration of the bundle."""
    return lambda name: json.loads((bundle / "configs" / name).read_text())


def texts(config):
    """Every string in a configuration."""
    if isinstance(config, dict):
        config = list(config.values())
    if isinstance(config, list):
        return [text for part in config for text in texts(part)]
    return [config] if isinstance(config, str) else []


def faults(text):
    found = []
    if text.startswith("$") and len(text) - 1 > 80:
        found.append("longer than 80 characters")
    if text.startswith("$") and "lambda" in text:
        found.append("a lambda")
    if text.startswith("$") and re.search(r"\bfor\b.*\bin\b", text):
        found.append("a comprehension")
    if re.search(r"(?<![\w.:/])/(?!/)\w", text) and not text.startswith("http"):
        found.append("an absolute path")
    if re.search(r"@\w+#|#\w+", text):
        found.append("the old mark of ids")
    return found


def test_all_configurations_are_there(bundle):
    own = ("published_train.json",) if bundle.name == "fusion_2d" else ()
    assert tuple(sorted(path.name for path in (bundle / "configs").glob("*.json"))) == tuple(sorted((*own, *NAMES)))
    assert (bundle / "configs" / "logging.conf").is_file()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_style(path):
    text = path.read_text()
    told = [f"{string}: {fault}" for string in texts(json.loads(text)) for fault in faults(string)]
    assert not told, "\n".join(told)
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "text", ["$" + "x" * 81, "$(lambda: 1)()", "$[x for x in y]", "/home" + "/me/data", "$@train#trainer"]
)
def test_a_broken_style_is_found(text):
    assert faults(text)


@pytest.mark.parametrize("name", ["train.json", "inference.json"])
def test_order_of_the_sections(read, name):
    ids = list(read(name))
    places = [ids.index(part) for part in ("imports", "bundle_root", "device", "network_def", "pairs", "initialize")]
    assert places == sorted(places)
    assert ids[0] == "imports"
    assert ids[-3] == "initialize"


def test_the_same_network_in_training_and_inference(read):
    train, inference = read("train.json"), read("inference.json")
    assert inference["network_def"].pop("return_weights") == "@weights_map"
    assert {name: train.get(name) for name in NETWORK} == {name: inference.get(name) for name in NETWORK}


def test_sizes_are_top_level_and_plain(read):
    train = read("train.json")
    for name in SIZES:
        assert isinstance(train[name], (int, float, list)), name


def test_defaults_of_the_paper():
    train, published = (
        json.loads((BUNDLES / "fusion_2d" / "configs" / name).read_text())
        for name in ("train.json", "published_train.json")
    )
    train |= published
    assert (train["epochs"], train["schedule_epochs"], train["batch_size"]) == (100, "@epochs", 8)
    assert (train["task"], train["split"], train["patch_size"]) == ("ct_mri_published", "random3", [256, 256])
    assert (train["learning_rate"], train["minimum_learning_rate"], train["phantoms"]) == (5e-4, 1e-7, 0)
    loss = train["losses"]["ct_mri_published"]
    assert [loss[f"{name}_weight"] for name in ("pixel", "gradient", "ssim")] == [2.0, 10.0, 5.0]


def test_run_and_its_other_name(read):
    assert read("train.json")["training"] == "%run"
    assert read("inference.json")["inference"] == "%run"


def test_metadata_fits_the_schema(read):
    metadata = read("metadata.json")
    schema = json.loads((BUNDLES / "meta_schema_20240725.json").read_text())
    jsonschema.validate(metadata, schema)
    assert metadata["schema"].endswith("meta_schema_20240725.json")
    assert metadata["version"] in metadata["changelog"]
    assert "not for diagnosis" in metadata["intended_use"]


def test_metadata_names_the_pinned_versions(read, checkout):
    metadata = read("metadata.json")
    pins = (checkout / "requirements.txt").read_text()
    named = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    named |= {"numpy": metadata["numpy_version"], **metadata["required_packages_version"]}
    own = named.pop("clinicalfmamba-nets")
    missing = [name for name, version in named.items() if f"{name}=={version}" not in pins]
    assert not missing
    assert own == clinicalfmamba_nets.__version__


def test_files_of_a_model_zoo_bundle(bundle):
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt"):
        assert (bundle / name).stat().st_size > 500, name
    for weights in (bundle / "models").glob("*"):
        assert weights.stat().st_size < 25 * 2**20


def test_the_model_card_has_every_section(bundle):
    text = (bundle / "docs" / "README.md").read_text()
    wanted = ["Model Overview", "Data", "Preprocessing", "Training configuration", "Input", "Output", "Performance"]
    wanted += ["Memory consumption", "MONAI Bundle Commands", "References", "License"]
    missing = [name for name in wanted if not re.search(rf"^#+ {name}\b", text, flags=re.MULTILINE | re.IGNORECASE)]
    assert not missing


def test_an_evaluation_takes_the_run_that_is_named(bundle):
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / name) for name in ("inference.json", "evaluate.json")])
    parser.update({"split_run": "run2"})
    assert parser.get_parsed_content("runs") == ["run2"]
