"""What is installed and what a run would use: versions, bundles, weights, device, scan backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import clinicalfmamba_nets
from clinicalfmamba_nets.engine.run.record import machine_facts
from clinicalfmamba_nets.engine.run.workflows import list_bundles
from clinicalfmamba_nets.io.files import available_memory

MIB = 2**20


def installation_facts() -> dict[str, Any]:
    """Tell what can be told without loading torch: versions, machine, bundles and their weights.

    Returns:
        `version`, `folder`, `machine` (see `machine_facts`, with `memory` in MiB) and `bundles`: name -> `folder`,
        `version`, `weights` (file name -> MiB).

    Example:
        >>> installation_facts()["version"] == clinicalfmamba_nets.__version__
        True
    """
    memory = available_memory()
    return {
        "version": clinicalfmamba_nets.__version__,
        "folder": str(Path(clinicalfmamba_nets.__file__).parent),
        "machine": {**machine_facts(), "memory": None if memory is None else memory // MIB},
        "bundles": {name: _bundle_facts(folder) for name, folder in list_bundles().items()},
    }


def device_facts() -> dict[str, Any]:
    """Tell what needs torch: the devices, the threads and the backends of the selective scan.

    Returns:
        `devices` (names, the one used by default first), `threads`, and `scan`: the rows of `ops.backend_report()`.
    """
    import torch

    from clinicalfmamba_nets.ops import backend_report

    devices = [f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    return {"devices": [*devices, "cpu"], "threads": torch.get_num_threads(), "scan": backend_report()}


def installation_text(facts: dict[str, Any]) -> str:
    """Lay out `installation_facts` for a terminal."""
    machine = facts["machine"]
    memory = "" if machine["memory"] is None else f", {machine['memory'] / 1024:.1f} GiB memory free"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"clinicalfmamba {facts['version']} in {facts['folder']}",
        f"python {machine['python']}, {machine['platform']}, {machine['cores']} cores{memory}",
        f"packages: {packages}",
        "bundles:" if facts["bundles"] else "bundles: none found; set CLINICALFMAMBA_BUNDLES to their folder",
    ]
    for name, bundle in facts["bundles"].items():
        weights = ", ".join(f"{file} ({size:.1f} MiB)" for file, size in bundle["weights"].items())
        lines += [
            f"  {name} {bundle['version']} in {bundle['folder']}",
            f"    weights: {weights or 'none; train first'}",
        ]
    return "\n".join(lines)


def device_text(facts: dict[str, Any]) -> str:
    """Lay out `device_facts` for a terminal; the active scan backend is marked by a star."""
    lines = [f"device: {', '.join(facts['devices'])}; {facts['threads']} threads", "selective scan:"]
    for name, row in facts["scan"].items():
        mark, there = "*" if row["active"] else " ", "yes" if row["available"] else "no"
        lines.append(f"{mark} {name:<10} {there:<4} {row['reason']}")
    return "\n".join(lines)


def _bundle_facts(folder: Path) -> dict[str, Any]:
    try:
        version = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8")).get(
            "version", "unknown"
        )
    except (OSError, ValueError):
        version = "unknown (unreadable metadata.json)"
    weights = {path.name: round(path.stat().st_size / MIB, 2) for path in sorted(folder.glob("models/*.pt"))}
    return {"folder": str(folder), "version": version, "weights": weights}
