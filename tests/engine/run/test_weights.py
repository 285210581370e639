"""Files of weights and the networks that they belong to."""

from __future__ import annotations

import shutil

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from clinicalfmamba_nets.engine.run.tasks import weights_path
from clinicalfmamba_nets.engine.run.weights import (
    read_weights,
    require_weights,
    shipped_networks,
    start_from_weights,
    trained_networks,
    without_prefixes,
)
from clinicalfmamba_nets.errors import FusionInputError


@pytest.mark.parametrize("check", [require_weights, start_from_weights])
def test_weights_that_do_not_fit_are_told(tmp_path, check):
    network = nn.Linear(2, 1)
    with pytest.raises(FusionInputError, match="model.pt: expected a file of weights, found no such file"):
        check(network, tmp_path / "model.pt")
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(FusionInputError, match=r"found weight of shape \(1, 3\) where the network has \(1, 2\)"):
        check(network, tmp_path / "model.pt")
    torch.save({"epoch": 1}, tmp_path / "model.pt")
    with pytest.raises(FusionInputError, match="expected a raw state_dict"):
        check(network, tmp_path / "model.pt")
    (tmp_path / "model.pt").write_text("text")
    with pytest.raises(FusionInputError, match="found another or damaged file"):
        check(network, tmp_path / "model.pt")


def test_a_damaged_byte_is_found(tmp_path):
    """torch.load takes it for another weight."""
    path, network = tmp_path / "model.pt", nn.Linear(64, 64)
    torch.save(network.state_dict(), path)
    content = bytearray(path.read_bytes())
    place = content.index(network.weight.detach().numpy().tobytes())
    content[place + 5002] ^= 64
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], network.weight)
    with pytest.raises(FusionInputError, match="found another or damaged file"):
        require_weights(network, path)


@pytest.mark.parametrize("check", [require_weights, start_from_weights])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, check, number):
    state = nn.Linear(2, 1).state_dict()
    state["weight"][0, 1] = number
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "model.pt")
    with pytest.raises(FusionInputError, match="expected finite numbers, found NaN or infinite ones in module.weight"):
        check(nn.Linear(2, 1), tmp_path / "model.pt")


def test_a_training_starts_from_weights(tmp_path):
    torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")
    network = nn.Linear(2, 1)
    start_from_weights(network, tmp_path / "model.pt")
    assert torch.equal(network.weight, read_weights(tmp_path / "model.pt")["weight"])
    start_from_weights(network, None)


def test_one_file_for_all_runs(tmp_path):
    torch.save(nn.Linear(2, 1).state_dict(), tmp_path / "model.pt")
    network = nn.Linear(2, 1)
    named = trained_networks(network, str(tmp_path / "model.pt"), ["run1", "run2"], "ours")
    assert named == {"ours": network}
    assert not network.training
    assert torch.equal(network.weight, read_weights(tmp_path / "model.pt")["weight"])


def test_a_file_for_each_run(tmp_path):
    states = {}
    for run in ("run1", "run2"):
        states[run] = nn.Linear(2, 1).state_dict()
        (tmp_path / run).mkdir()
        torch.save(states[run], tmp_path / run / "model.pt")
    (networks,) = trained_networks(nn.Linear(2, 1), str(tmp_path / "{run}" / "model.pt"), ["run1", "run2"]).values()
    assert all(torch.equal(networks[run].weight, state["weight"]) for run, state in states.items())
    with pytest.raises(FusionInputError, match="run3.*no such file"):
        trained_networks(nn.Linear(2, 1), str(tmp_path / "{run}" / "model.pt"), ["run3"])


def test_shipped_weights_of_other_tasks(checkout, tmp_path):
    root = shutil.copytree(checkout / "bundles" / "fusion_2d", tmp_path / "b", ignore=shutil.ignore_patterns("*.pt"))
    (root / "models").mkdir(exist_ok=True)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    parser.update({"task": "ct_mri_published"})
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), weights_path(root, "ct_mri_published"))
    (found,) = shipped_networks(root, ["ct_mri_published"]).values()
    assert torch.equal(found.conv_in.weight, network.conv_in.weight)
    assert shipped_networks(root, []) == {}
    with pytest.raises(FusionInputError, match="model_pet_mri.pt: expected a file of weights"):
        shipped_networks(root, ["pet_mri"])


def test_names_of_wrapped_networks_are_read():
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    for prefix in ("module.", "_orig_mod.", "_orig_mod.module."):
        assert set(without_prefixes({prefix + name: value for name, value in state.items()})) == {"a", "b"}
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert without_prefixes(mixed) == mixed and without_prefixes({}) == {}


def test_a_tensor_that_does_not_fit_is_named_as_the_file_names_it(tmp_path):
    torch.save({"module.weight": torch.zeros(3, 2), "module.bias": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(FusionInputError, match=r"found module\.bias of shape \(3,\) where the network has \(2,\)"):
        start_from_weights(torch.nn.Linear(2, 2), tmp_path / "model.pt")
