"""An archive that speaks DICOMweb: series found by QIDO, images fetched by WADO, results sent by STOW.

Source: DICOM PS3.18, 10.4 to 10.6; by the package dicomweb-client. What is fetched is checked before it is kept, what
was sent is read back. Nothing but what the caller names is asked for: plain UIDs and named fields.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.dicom.header import quiet_pydicom, read_dataset
from clinicalfmamba_nets.io.dicom.modules import FUSED
from clinicalfmamba_nets.io.dicom.web_session import answers_told, open_client, sent_once
from clinicalfmamba_nets.io.files import PathLike, atomic_file, printable, to_path

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_WITHOUT_PIXELS = tuple(
    ["SR", "PR", "KO", "REG", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "DOC", "FID", "AU", "ECG"]
)
_SERIES_FIELDS = ["SeriesInstanceUID", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"]
_BATCH = 64 * 2**20  # bytes of one STOW message
_SPARE = 2**30  # bytes of the disk that stay free
MOST_BYTES = 8 * 2**30  # of one study


@dataclass(frozen=True)
class RemoteSeries:
    """One series of an archive.

    Args:
        uid: SeriesInstanceUID.
        modality: as the archive states it.
        description: SeriesDescription, "" where there is none.
        instances: SOPInstanceUIDs, sorted.
    """

    uid: str
    modality: str
    description: str
    instances: tuple[str, ...]


def check_uid(uid: str, what: str = "study") -> str:
    """Return a UID, refused where it is none: nothing else ever becomes part of a URL or a file name.

    Raises:
        FusionInputError: something else than digits and dots, or more than 64 characters.

    Example:
        >>> check_uid("1.2.840.1")
        '1.2.840.1'
    """
    if not _UID.fullmatch(uid) or len(uid) > 64:
        raise input_error(f"{what} {printable(uid)!r}", "a UID (digits and dots)", "something else", "check the UID")
    return uid


class Archive:
    """A DICOMweb archive.

    Args:
        url: of the service, such as "https://pacs.example/dicom-web"; without a password in it.
        headers: sent with every request, such as `Authorization`; never told or logged.

    Raises:
        FusionInputError: no such URL, or dicomweb-client is not installed.

    Example:
        >>> archive = Archive("https://pacs.example/dicom-web", {"Authorization": "Bearer ..."})  # doctest: +SKIP
        >>> [series.modality for series in archive.series("1.2.840.1")]  # doctest: +SKIP
        ['CT', 'MR']
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = open_client(self.url, dict(headers or {}))
        self.name = urlsplit(self.url).netloc
        self.warning = ""
        if headers and self.url.startswith("http://") and urlsplit(self.url).hostname not in ("localhost", "127.0.0.1"):
            self.warning = f"{self.name}: http sends the password or token as it is; https would hide it"

    def series(self, study: str, only: Sequence[str] = ()) -> list[RemoteSeries]:
        """Find the series of a study that can hold images, without what this software has sent there.

        Args:
            study: StudyInstanceUID.
            only: SeriesInstanceUIDs to look at alone; none for all.

        Raises:
            FusionInputError: no answer, half of one, or no such study.
        """
        check_uid(study)
        ask = functools.partial(self._client.search_for_series, study, fields=_SERIES_FIELDS)
        with answers_told(self.name, f"study {study}"):
            rows = _all_rows(ask, "SeriesInstanceUID")
        if not rows:
            raise input_error(f"{self.name}: study {study}", "its series", "none", "check the UID and the rights")
        found = [row for row in rows if not only or row["SeriesInstanceUID"] in only]
        return [self._whole(study, row) for row in found if _may_hold_images(row)]

    def _whole(self, study: str, row: Mapping[str, str]) -> RemoteSeries:
        """Return a series with all its instances, or refuse an answer that lacks some."""
        uid, stated = check_uid(row["SeriesInstanceUID"], "series"), row["NumberOfSeriesRelatedInstances"]
        ask = functools.partial(self._client.search_for_instances, study, uid, fields=["SOPInstanceUID"])
        with answers_told(self.name, f"series {uid}"):
            rows = _all_rows(ask, "SOPInstanceUID", int(stated) if stated.isdigit() else None)
        named = [check_uid(item["SOPInstanceUID"], "instance") for item in rows]
        if stated.isdigit() and len(named) != int(stated) or not named:
            found = f"{len(named)}"
            raise input_error(f"{self.name}: series {uid}", f"{stated or 'some'} images", found, "run it again")
        return RemoteSeries(uid, row["Modality"], row["SeriesDescription"], tuple(sorted(named)))

    def fetch(self, study: str, series: Sequence[RemoteSeries], folder: Path, most: int = MOST_BYTES) -> Path:
        """Fetch all images of some series into a folder, those that are not there yet.

        Args:
            study: StudyInstanceUID.
            series: what `series` gave.
            folder: gets a folder for each series and a file for each image; a file is whole or not there.
            most: bytes that the study may take; 1 GiB of the disk stays free.

        Returns:
            The folder.

        Raises:
            FusionInputError: no answer, half of one, another image than asked for, or no place on the disk.
        """
        with contextlib.suppress(FileNotFoundError):  # another process may remove the empty folder around it
            folder.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {folder / part.uid / f"{uid}.dcm": (part.uid, uid) for part in series for uid in part.instances}
        for old in folder.rglob("*"):
            if old.is_file() and old not in wanted:
                old.unlink()
        taken = sum(path.stat().st_size for path in wanted if path.exists())
        for path, (uid, instance) in wanted.items():
            if not path.exists():
                _check_room(folder, taken, most, f"{self.name}: study {study}")
                self._fetch_one(study, uid, instance, path)
                taken += path.stat().st_size
        return folder

    def _fetch_one(self, study: str, series: str, instance: str, path: Path) -> None:
        where = f"{self.name}: image {instance}"
        with quiet_pydicom(), answers_told(self.name, f"image {instance}"):
            dataset = self._client.retrieve_instance(study, series, instance)
            named = tuple(str(dataset.get(key)) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
        if named != (study, series, instance):
            raise input_error(where, "this image", "another one", "tell who runs the archive")
        with atomic_file(path) as partial:
            with answers_told(self.name, f"image {instance}"), quiet_pydicom():
                dataset.save_as(partial, enforce_file_format=True)
            read_dataset(partial, pixels=True)

    def store(self, study: str, files: Sequence[PathLike]) -> list[str]:
        """Send objects to a study, and read each back.

        Args:
            study: StudyInstanceUID of all of them.
            files: DICOM files.

        Returns:
            Their SOPInstanceUIDs.

        Raises:
            FusionInputError: no answer, a refusal, or something else comes back than was sent.
        """
        sent: list[str] = []
        for batch in _batches(files):
            objects = [read_dataset(file, pixels=True) for file in batch]
            uids = [str(item.SOPInstanceUID) for item in objects]
            kept = len(sent)
            try:
                with answers_told(self.name, f"study {study}", sending=True), sent_once(self._client):
                    answer = self._client.store_instances(objects, study)
                stored, refused = _outcome(answer, uids)
                kept += len(stored)
                if refused:
                    found = f"{len(refused)} of {len(uids)} refused, the first: {refused[0]}"
                    where, remedy = f"{self.name}: study {study}", "ask who runs the archive"
                    raise input_error(where, "all objects to be stored", found, remedy)
                for item in objects:
                    self._compare(study, item)
            except FusionInputError as error:
                if not kept:
                    raise
                told = f"{kept} of {len(files)} objects were stored, the same line again sends all of them"
                raise FusionInputError(f"{error} ({told})") from error
            sent += uids
        return sent

    def _compare(self, study: str, sent: Any) -> None:
        """Read an object back: archives answer "stored" and keep an earlier or unreadable one."""
        uid, series = str(sent.SOPInstanceUID), str(sent.SeriesInstanceUID)
        with quiet_pydicom(), answers_told(self.name, f"object {uid}"):
            kept = self._client.retrieve_instance(study, series, uid)
            same = _content(kept) == _content(sent)
        if not same:
            expected, found = "the object as it was sent", "another one of this UID"
            raise input_error(f"{self.name}: object {uid}", expected, found, "fuse again with --overwrite")


def listing_digest(series: Sequence[RemoteSeries]) -> str:
    """Return the SHA-256 of the UIDs of series and their images: it changes where an image comes or goes.

    Example:
        >>> one = RemoteSeries("1.2", "MR", "", ("1.2.1",))
        >>> listing_digest([one]) == listing_digest([one]), len(listing_digest([]))
        (True, 64)
    """
    listed = sorted((part.uid, *part.instances) for part in series)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _all_rows(
    ask: Callable[..., Sequence[Mapping[str, Any]] | None], key: str, stated: int | None = None
) -> list[dict[str, str]]:
    """Return what a search finds, each once; archives give so many at a time, and ignore or heed where to begin.

    Args:
        ask: searches from the row `offset` on, None for the first.
        key: keyword of the UID that tells rows apart.
        stated: how many there are; None where nothing tells, so that it is asked until nothing new comes.
    """
    found: dict[str, dict[str, str]] = {}
    while True:
        rows = [_plain(row) for row in ask(offset=len(found) or None) or []]
        new = {row[key]: row for row in rows if row[key] not in found}
        found |= new
        if not new or (stated is not None and len(found) >= stated):
            return list(found.values())


def _plain(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of an answer as texts, "" where one is absent."""
    from pydicom.datadict import tag_for_keyword

    found = {}
    for keyword in (*_SERIES_FIELDS, "SOPInstanceUID"):
        values = row.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
        found[keyword] = str(values[0])
    return found


def _may_hold_images(row: Mapping[str, str]) -> bool:
    return row["Modality"] not in _WITHOUT_PIXELS and not row["SeriesDescription"].startswith(FUSED)


def _check_room(folder: Path, taken: int, most: int, where: str) -> None:
    if taken > most:
        found = f"{taken / 2**30:.1f} GiB"
        raise input_error(where, f"at most {most / 2**30:g} GiB of images", found, "name both series by their UIDs")
    free = shutil.disk_usage(folder).free
    if free < _SPARE:
        expected = f"{_SPARE / 2**30:g} GiB free on the disk"
        raise input_error(printable(folder), expected, f"{free / 2**30:.1f} GiB", "free some and run it again")


def _batches(files: Sequence[PathLike]) -> Iterator[list[PathLike]]:
    batch: list[PathLike] = []
    size = 0
    for file in files:
        more = to_path(file).stat().st_size
        if batch and size + more > _BATCH:
            yield batch
            batch, size = [], 0
        batch, size = [*batch, file], size + more
    if batch:
        yield batch


def _outcome(answer: Any, uids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the UIDs of objects that an archive says it has stored, and of those it has not.

    Where its answer names none at all (an empty one, or one of a media type that dicomweb-client does not read, as
    "application/dicom+json; charset=utf-8"), nothing is known, and reading back tells.
    """
    failed = [str(item.get("ReferencedSOPInstanceUID")) for item in answer.get("FailedSOPSequence") or []]
    named = {str(item.get("ReferencedSOPInstanceUID")) for item in answer.get("ReferencedSOPSequence") or []}
    stored = [uid for uid in uids if uid in named]
    return stored, failed or [uid for uid in uids if stored and uid not in named]


def _content(dataset: Any) -> list[Any]:
    """Return what an object is about: identity, references and pixels, which no archive has to alter."""
    keywords = (
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ReferencedSeriesSequence",
        "SourceImageSequence", "AdvancedBlendingSequence", "BlendingDisplaySequence", "RegistrationSequence",
        "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "PixelData",
    )  # fmt: skip
    return [dataset.get(keyword) for keyword in keywords]
