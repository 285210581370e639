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
from clinicalfmamba_nets.errors import input_error
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
        records: what the files of the folder were made from, by this run and by earlier ones.

    Example:
        >>> report = RunReport("out", {"task": "ct_mri"})
        >>> report.add(CaseResult("16011", "mri.png", "ct.png", "16011_fused.png", "16011_preview.png", "done"))
        >>> report.count("done")
        1
    """

    output_dir: str | os.PathLike[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    interval: float = 2.0
    records: Records | None = None

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
            "records": self.records.as_list() if self.records else [],
        }

    def write(self, finished: bool = True) -> Path:
        """Replace `run.json` in one step, so that a reader or a kill never meets half a file."""
        write_json(self.as_dict(finished), self.path)
        self._written = time.monotonic()
        return self.path


def _report_in(path: Path) -> dict[str, Any]:
    """Return the report that a folder holds, an empty one for none.

    Raises:
        FusionInputError: it is the report of something else, or no report, which this run would take the place of.
    """
    found = "another report"
    try:
        text = path.read_text(encoding="utf-8")
        report = json.loads(text) if text.strip() else {}
    except OSError:
        report = {}
    except ValueError:
        report, found = None, "something that is no JSON"
    if not isinstance(report, dict) or (report and "outputs" not in report):
        raise input_error(path, "a report of fusions", found, "choose another folder by -o, or put the file away")
    return report


class Records:
    """What each result in a folder was made from; each record is on the disk before its result is.

    A record is a dictionary with `fused` (name of the file, which the record is found by), `case`, `image`, `image2`,
    `preview`, `task`, `bundle`, `settings`, `version`, `time` and `sha256` (of `image`, `image2`, `weights`, `fused`).
    Earlier ones are read from `run.json`, and from the journal of a run that was killed.

    Args:
        folder: where the results lie.
        rank: number of this process among those that share the run.

    Raises:
        FusionInputError: `run.json` is the report of something else.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> Records(folder).add({"fused": "7_fused.png", "case": "7"})
        >>> Records(folder).find("7_fused.png")["case"]
        '7'
    """

    def __init__(self, folder: str | os.PathLike[str], rank: int = 0) -> None:
        self.folder = Path(folder)
        self._journal = self.folder / f".run.{rank}.journal"
        self._known: dict[str, dict[str, Any]] = {}
        self.reload()

    def reload(self) -> None:
        """Read the report and all journals again, such as those of other processes."""
        path = self.folder / RUN_FILE
        report = _report_in(path)
        listed = report.get("records")
        self._keep(listed if isinstance(listed, list) else [])
        for journal in sorted(self.folder.glob(".run.*.journal")):
            self._keep(_lines(journal))

    def _keep(self, records: list[Any]) -> None:
        for record in records:
            if isinstance(record, dict) and isinstance(record.get("fused"), str):
                self._known.pop(record["fused"], None)
                self._known[record["fused"]] = record

    def find(self, fused: str) -> dict[str, Any] | None:
        """Return the record of a result by the name of its file, None where there is none."""
        return self._known.get(fused)

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, on the disk too."""
        record |= {"version": __version__, "time": _now()}
        self._keep([record])
        with open(self._journal, "a", encoding="ascii") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def as_list(self) -> list[dict[str, Any]]:
        """Return all records, those of earlier runs first."""
        return list(self._known.values())

    def settle(self) -> None:
        """Remove the journals once `run.json` holds what they tell."""
        for journal in self.folder.glob(".run.*.journal"):
            journal.unlink(missing_ok=True)


def _lines(journal: Path) -> list[Any]:
    """Return the records of a journal; a last line that a kill cut off is left out."""
    found = []
    for line in journal.read_text(encoding="ascii", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


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
