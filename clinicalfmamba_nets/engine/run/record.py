"""`run.json`: what one run of the command line read, wrote, skipped and could not do."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.io.files import atomic_file

RUN_FILE = "run.json"
STATUSES = ("done", "failed", "skipped")
PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite", "nibabel", "pydicom", "itk", "triton", "mamba-ssm")


@dataclass
class CaseResult:
    """Outcome of one pair of images; `fused` and `preview` are relative to the output folder."""

    case: str
    image: str
    image2: str
    fused: str | None = None
    preview: str | None = None
    status: str = "failed"
    error: str | None = None


@dataclass
class RunReport:
    """Collects the outcome of every case and keeps `run.json` whole on the disk while the run goes on.

    Args:
        output_dir: folder that `run.json` is written to.
        settings: what the run was asked for (task, device, list), stored as it is.
        interval: least number of seconds between two writes; the last write always happens.

    Example:
        >>> report = RunReport("out", {"task": "ct_mri"})
        >>> report.add(CaseResult("16011", "mri.png", "ct.png", "16011_fused.png", "16011_preview.png", "done"))
        >>> report.count("done")
        1
    """

    output_dir: str | os.PathLike[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    interval: float = 2.0

    def __post_init__(self) -> None:
        self.outputs: list[CaseResult] = []
        self.details: dict[str, dict[str, Any]] = {}
        self.started = _now()
        self._written = time.monotonic()

    @property
    def path(self) -> Path:
        """Where the report lies."""
        return Path(self.output_dir) / RUN_FILE

    def add(self, result: CaseResult, **details: Any) -> None:
        """Append one outcome, in input order, with free details (seconds, task, warnings) kept apart from it."""
        if result.status not in STATUSES:
            raise ValueError(f"status of {result.case}: expected one of {STATUSES}, found {result.status!r}")
        self.outputs.append(result)
        self.details[result.case] = details
        if time.monotonic() - self._written >= self.interval:
            self.write(finished=False)

    def count(self, status: str) -> int:
        """Number of cases with this status so far."""
        return sum(result.status == status for result in self.outputs)

    def first_error(self) -> str | None:
        """Error of the first case that failed, None when none did."""
        return next((result.error for result in self.outputs if result.status == "failed"), None)

    def as_dict(self, finished: bool = True) -> dict[str, Any]:
        """The report as `run.json` holds it."""
        return {
            "version": __version__,
            "started": self.started,
            "finished": _now() if finished else None,
            "system": machine_facts(),
            "settings": dict(self.settings),
            "counts": {status: self.count(status) for status in STATUSES},
            "outputs": [asdict(result) for result in self.outputs],
            "details": self.details,
        }

    def write(self, finished: bool = True) -> Path:
        """Replace `run.json` in one step, so that a reader or a kill never meets half a file."""
        write_json(self.as_dict(finished), self.path)
        self._written = time.monotonic()
        return self.path


def write_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write JSON in one step: the file is whole, or as it was before.

    Args:
        content: what `json` can write; names that are not valid text are escaped.
        path: the target file; its folder is made when it is missing.
    """
    text = json.dumps(content, indent=2) + "\n"
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="ascii")


def read_outputs(output_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """What an earlier `run.json` in a folder tells about each case.

    Args:
        output_dir: folder of an earlier run; it need not exist.

    Returns:
        Case -> its entry of `outputs` joined with its details; empty where there is no readable report.
    """
    try:
        report = json.loads((Path(output_dir) / RUN_FILE).read_text(encoding="utf-8"))
        details = report.get("details", {})
        return {entry["case"]: {**details.get(entry["case"], {}), **entry} for entry in report["outputs"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def machine_facts() -> dict[str, Any]:
    """Versions and machine that a result depends on, told without loading any library.

    Returns:
        `python`, `platform`, `cores`, `packages` (those installed) and, once torch is loaded, its `threads`.

    Example:
        >>> sorted(machine_facts())[:3]
        ['cores', 'packages', 'platform']
    """
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {},
    }
    for name in PACKAGES:
        try:
            facts["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "torch" in sys.modules:
        facts["threads"] = sys.modules["torch"].get_num_threads()
    return facts


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
