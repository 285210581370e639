"""Bundles are found where the environment, the installation or the checkout has them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clinicalfmamba_nets.engine.run.workflows import find_bundle, list_bundles, open_bundle
from clinicalfmamba_nets.errors import FusionInputError


def make_bundle(folder, name):
    configs = folder / name / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text('{"version": "0"}')
    (configs / "inference.json").write_text('{"bundle_root": ".", "depth": 5, "initialize": []}')
    return folder / name


def test_the_bundle_of_the_checkout_is_found(checkout, monkeypatch):
    monkeypatch.delenv("CLINICALFMAMBA_BUNDLES", raising=False)
    assert find_bundle("fusion_2d") == checkout / "bundles" / "fusion_2d"


def test_the_environment_goes_first(tmp_path, monkeypatch):
    own = make_bundle(tmp_path, "fusion_2d")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path))
    assert find_bundle("fusion_2d") == own
    assert list_bundles()["fusion_2d"] == own


def test_an_unknown_bundle_names_the_known_ones():
    with pytest.raises(FusionInputError, match=r"bundle 'fusion_4d': .*found.*fusion_2d"):
        find_bundle("fusion_4d")


def test_an_unknown_configuration_names_the_known_ones(tmp_path, monkeypatch):
    make_bundle(tmp_path, "own")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path))
    with pytest.raises(FusionInputError, match="choose one of inference, metadata"):
        open_bundle("own", "inference", ["evaluate"])


def test_an_override_of_none_keeps_the_value(tmp_path, monkeypatch):
    make_bundle(tmp_path, "own")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path))
    assert open_bundle("own", overrides={"depth": None}).parser["depth"] == 5
    assert open_bundle("own", overrides={"depth": 1}).parser["depth"] == 1


def test_an_unknown_override_is_refused(tmp_path, monkeypatch):
    make_bundle(tmp_path, "own")
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path))
    with pytest.raises(FusionInputError, match="did you mean 'depth'"):
        open_bundle("own", overrides={"dept": 1})


def test_finding_bundles_does_not_load_torch():
    code = "import sys, clinicalfmamba_nets.engine.run.workflows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
