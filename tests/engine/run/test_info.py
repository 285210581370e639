"""What `clinicalfmamba info` tells of the installation."""

from __future__ import annotations

import pytest
import torch

import clinicalfmamba_nets
from clinicalfmamba_nets.engine.run import info


def test_versions_bundles_and_weights(tmp_path, monkeypatch):
    metadata = tmp_path / "fusion_2d" / "configs" / "metadata.json"
    metadata.parent.mkdir(parents=True)
    monkeypatch.setenv("CLINICALFMAMBA_BUNDLES", str(tmp_path))

    def told() -> str:
        return info.installation_text(info.installation_facts())

    metadata.write_text('{"version": "7.8.9"}')
    assert told().startswith(f"clinicalfmamba {clinicalfmamba_nets.__version__} in ")
    assert f"  fusion_2d 7.8.9 in {tmp_path / 'fusion_2d'}\n    weights: none; train first" in told()
    (tmp_path / "fusion_2d" / "models").mkdir()
    (tmp_path / "fusion_2d" / "models" / "model.pt").write_bytes(bytes(2**20))
    metadata.write_text("{")
    where = f"  fusion_2d unknown (unreadable metadata.json) in {tmp_path / 'fusion_2d'}"
    assert f"{where}\n    weights: model.pt (1.0 MiB)" in told()


@pytest.mark.parametrize("memory", [None, 3072])
def test_memory_is_told_where_it_is_known(memory):
    facts = info.installation_facts()
    facts["machine"]["memory"], facts["bundles"] = memory, {}
    text = info.installation_text(facts)
    assert ("3.0 GiB memory free" in text, "memory free" in text) == ((True, True) if memory else (False, False))
    assert "bundles: none found; set CLINICALFMAMBA_BUNDLES to their folder" in text


def test_the_backend_in_use_is_marked():
    lines = info.device_text(info.device_facts()).splitlines()
    assert lines[0].startswith("device: ") and lines[0].endswith(f"; {torch.get_num_threads()} threads")
    assert sum(line.startswith("* ") for line in lines) == 1
