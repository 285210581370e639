"""Cases that lie in a DICOMweb archive: fetched one by one, fused like folders, and sent back where that is asked."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clinicalfmamba_nets.engine.fusion.case import Case, Source, content_digest
from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.fusion.results import Results, output_names, set_name
from clinicalfmamba_nets.engine.run.record import CaseResult
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io.files import safe_name

if TYPE_CHECKING:
    from clinicalfmamba_nets.io.dicom.dicomweb import Archive, RemoteSeries

CACHE = ".dicomweb"  # in the folder of the results; what a stopped run has fetched waits there


class Fuses(Protocol):
    """What `engine.fusion.batch.CaseFuser` offers."""

    results: Results
    options: FuseOptions

    def __call__(self, case: Case) -> tuple[CaseResult, dict[str, Any]]:
        """Fuse one case whose images lie on the disk."""

    def weights_digest(self, bundle: str, task: str) -> str:
        """Return the SHA-256 of the weights of a task."""

    def tell_failure(self, result: CaseResult, error: Exception) -> CaseResult:
        """Put the cause of a failure into the outcome."""


@dataclass
class RemoteStudy:
    """A study of an archive as the place that a case comes from.

    Args:
        archive: where it lies.
        uid: StudyInstanceUID.
        folder: where its images are kept until it is fused.
        selectors: what chooses its two series, as in a folder; none where the choice is clear.
        task: that was asked for.
        store: whether results are sent back.
        keep: whether what was fetched stays, for `view`.
    """

    archive: Archive
    uid: str
    folder: Path
    selectors: Sequence[str] = ()
    task: str = ""
    store: bool = False
    keep: bool = False
    _found: list[RemoteSeries] = field(default_factory=list)

    @cached_property
    def listing(self) -> str:
        """SHA-256 of the UIDs of all images that the choice is made among, as the archive lists them now.

        Raises:
            FusionInputError: no answer, or no such study.
        """
        self._found = self._series()
        return _digest(self._found)

    def _series(self) -> list[RemoteSeries]:
        named = [one for one in self.selectors if one.count(".") > 3 and set(one) <= set("0123456789.")]
        return self.archive.series(self.uid, named if len(named) == 2 else ())

    def identity(self) -> dict[str, str]:
        """Return what a record keeps of the place that a result is from."""
        return {"url": self.archive.url, "study": self.uid, "listing": self.listing}

    def fetch(self) -> None:
        """Fetch the images that are not here yet.

        Raises:
            FusionInputError: the archive or the disk is at fault, or the study changes meanwhile.
        """
        listing = self.listing
        self.archive.fetch(self.uid, self._found, self.folder)
        self.check_unchanged(listing)

    def case(self, name: str) -> Case:
        """Return the case of the two series that are to be fused, by the rules for folders.

        Raises:
            FusionInputError: the choice is not clear, or a series is no volume.
        """
        from clinicalfmamba_nets.io.dicom.study import open_study

        study = open_study(self.folder)
        case = Case.of_study(study, name, self.selectors, self.task)
        warnings = (*([self.archive.warning] if self.archive.warning else []), *case.warnings)
        return Case(name, case.first, case.second, "", case.notes, warnings, remote=self)

    def check_unchanged(self, listing: str) -> None:
        """Refuse to go on with a study to which images were added, or of which some were taken away.

        Raises:
            FusionInputError: it has changed.
        """
        if _digest(self._series()) != listing:
            where = f"{self.archive.name}: study {self.uid}"
            raise input_error(where, "the images that it had", "others", "run it again when the study is complete")

    def send(self, results: Path, name: str) -> list[str]:
        """Send the results of the case, and what shows its sources as one; return their UIDs.

        Raises:
            FusionInputError: the study has changed, or the archive does not keep what it was sent.
        """
        self.check_unchanged(self.listing)
        places = [*sorted(results.glob(f"{safe_name(name)}_fused*")), results / set_name(name)]
        files = [file for place in places if place.is_dir() for file in sorted(place.glob("*.dcm"))]
        files.sort(key=lambda file: file.name.startswith("PR"))  # last: it refers to the registration
        return self.archive.store(self.uid, files)

    def clean(self) -> None:
        """Remove what was fetched, and the folder around it once it is empty; other processes may do the same."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty, or gone
            self.folder.parent.rmdir()


def _digest(series: Sequence[RemoteSeries]) -> str:
    from clinicalfmamba_nets.io.dicom.dicomweb import listing_digest

    return listing_digest(series)


def study_uids(named: Sequence[str]) -> list[str]:
    """Return the UIDs that were named, and those of files with one in each line; lines that begin with # are left out.

    Example:
        >>> study_uids(["1.2.3", "1.2.4"])
        ['1.2.3', '1.2.4']
    """
    found: list[str] = []
    for name in named:
        if Path(name).is_file():
            lines = [line.strip() for line in Path(name).read_text(encoding="utf-8-sig", errors="replace").splitlines()]
            found += [line for line in lines if line and not line.startswith("#")]
        else:
            found.append(name)
    return found


def remote_cases(
    url: str,
    studies: Sequence[str],
    output: Path,
    headers: Mapping[str, str],
    *,
    series: Sequence[str] = (),
    task: str = "",
    store: bool = False,
    keep: bool = False,
) -> list[Case]:
    """Return studies of an archive as cases, which are fetched when their turn comes.

    Args:
        url: of the DICOMweb service.
        studies: StudyInstanceUIDs; a case is named by its own.
        output: folder of the results.
        headers: sent with every request.
        series: what chooses the two series of each study.
        task: that was asked for.
        store: whether results are sent back.
        keep: whether what was fetched stays.

    Raises:
        FusionInputError: no URL, no UID, or dicomweb-client is not installed.
    """
    from clinicalfmamba_nets.io.dicom.dicomweb import Archive, check_uid

    archive = Archive(url, headers)
    cases = []
    for uid in dict.fromkeys(check_uid(uid) for uid in studies):
        folder = output / CACHE / uid
        remote = RemoteStudy(archive, uid, folder, series, task, store, keep)
        cases.append(Case(uid, Source(f"{archive.url}/studies/{uid}"), remote=remote))
    return cases


def fuse_remote(fuser: Fuses, case: Case) -> tuple[CaseResult, dict[str, Any]]:
    """Fuse a case that lies in an archive, and send its result there where that is asked.

    A result whose study has the same images as when it was made is there already, and nothing is fetched; one that was
    not sent yet is. What was fetched is removed once the case is fused or refused, and waits after a broken connection.

    Args:
        fuser: fuses the case once its images lie on the disk.
        case: with `remote`.

    Returns:
        Outcome and details, as a `CaseFuser` gives them.
    """
    remote, local, whole, results = case.remote, None, False, fuser.results
    assert isinstance(remote, RemoteStudy)
    result = CaseResult(case.name, case.first.path, "")
    details: dict[str, Any] = {"notes": [], "warnings": []}
    try:
        names = output_names(case.name, results.output_ext or ".dcm")
        if _is_there(fuser, names, remote):
            result.status, (result.fused, result.preview) = "skipped", names
        else:
            remote.fetch()
            whole = True
            local = remote.case(case.name)
            result, details = fuser(local)
        details["dicomweb"] = {"url": remote.archive.url, "study": remote.uid}
        if remote.store and result.status != "failed":
            details["dicomweb"]["stored"] = _sent(fuser, names[0], remote, case.name)
    except Exception as error:
        result.status = "failed"
        fuser.tell_failure(result, error)
    finally:
        if local is not None:
            local.close()
        if whole and not remote.keep:
            remote.clean()
    return result, details


def _is_there(fuser: Fuses, names: tuple[str, str], remote: RemoteStudy) -> bool:
    """Tell whether the folder holds the very result of a study as the archive lists it now."""
    record, folder = fuser.results.records.find(names[0]), fuser.results.folder
    fetched = remote.folder.is_dir() or not remote.keep
    if fuser.options.overwrite or record is None or not fetched or not all((folder / name).exists() for name in names):
        return False
    if record.get("remote") != remote.identity() or record.get("settings") != fuser.options.image_settings():
        return False
    task, bundle = str(record.get("task")), str(record.get("bundle"))
    if fuser.options.task not in (None, task) or fuser.options.bundle not in (None, bundle):
        return False
    same = record.get("weights") == fuser.weights_digest(bundle, task)
    return same and content_digest(folder / names[0]) == record.get("sha256", {}).get("fused")


def _sent(fuser: Fuses, fused: str, remote: RemoteStudy, name: str) -> list[str]:
    """Send a result unless its record tells that it was; return the UIDs of its objects."""
    records = fuser.results.records
    record = records.find(fused) or {}
    if not record.get("stored"):
        record["stored"] = remote.send(fuser.results.folder, name)
        records.add(record)
    return list(record["stored"])
