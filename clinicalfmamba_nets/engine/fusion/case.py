"""A case: two images that belong together, each opened once, with what is known of it beside its pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clinicalfmamba_nets.data.datalists import MAPS, map_of, modality_of
from clinicalfmamba_nets.engine.run.tasks import DICOM_WORDS, LABELS, MR_WORDS, choose_task, exchanged, find_task
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import (
    check_file,
    has_samples,
    image_files,
    is_dicom,
    is_volume,
    printable,
    read_image,
    result_extension,
    stated_modality,
)
from clinicalfmamba_nets.io.dicom.files import split_selector

if TYPE_CHECKING:
    from clinicalfmamba_nets.io.dicom.opened import OpenedSeries
    from clinicalfmamba_nets.io.dicom.series import Series
    from clinicalfmamba_nets.io.dicom.study import Study

_BLOCK = 2**20


class Remote(Protocol):
    """Where the images of a case come from that are no files yet, see `engine.fusion.remote`."""

    def identity(self) -> dict[str, str]:
        """Return what a record keeps of the place."""


class Source:
    """One image of a case. What it is made of is looked up when it is first asked for, and then kept.

    Args:
        path: the image's file; for DICOM a folder, DICOMDIR or file, with `::selector` behind it for one series.
        studies: opened studies by their path, which the images of a case share.

    Example:
        >>> Source("a/mri.png").word, Source("a/mri.png").is_series
        ('mri', False)
    """

    def __init__(self, path: str | os.PathLike, studies: dict[str, Study] | None = None) -> None:
        self.path = os.fsdecode(path)
        self._studies = {} if studies is None else studies

    def __repr__(self) -> str:
        return f"Source({self.path!r})"

    @cached_property
    def is_series(self) -> bool:
        """Whether this is a DICOM series."""
        return is_dicom(self.path)

    @property
    def series(self) -> Series:
        """The DICOM series, its headers read.

        Raises:
            FusionInputError: none, several, or none that is a volume.
        """
        return self.opened.series

    @cached_property
    def opened(self) -> OpenedSeries:
        """The path of the DICOM series with the series in it, for readers and writers; raises as `series`."""
        from clinicalfmamba_nets.io.dicom.opened import OpenedSeries
        from clinicalfmamba_nets.io.dicom.study import open_study

        if isinstance(self.path, OpenedSeries):
            return self.path
        target, selector = split_selector(self.path)
        key = os.path.abspath(target)
        if key not in self._studies:
            self._studies[key] = open_study(target)
        study = self._studies[key]
        return OpenedSeries(study, study.choose(selector))

    def close(self) -> None:
        """Forget what was opened."""
        self._studies.clear()
        self.__dict__.pop("opened", None)

    @cached_property
    def files(self) -> list[Path]:
        """The files that hold the image.

        Raises:
            FusionInputError: there are none.
        """
        if self.is_series:
            return sorted(self.series.headers)
        check_file(self.path)
        return image_files(self.path)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file; of several files, and of a DICOM series, that of their sorted SHA-256 sums.

        A contrast that shares its files with another one has its rule behind the sums.
        """
        if self.is_series:
            return self.series.digest
        sums = sorted(file_digest(file) for file in self.files)
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()

    @cached_property
    def modality(self) -> str:
        """DICOM's Modality ("CT", "MR", "PT", "NM"); "" for another format."""
        return self.series.modality if self.is_series else ""

    @cached_property
    def word(self) -> str:
        """What the image shows, a key of `LABELS`: by its header and SeriesDescription, or by the name of the file."""
        if not self.is_series:
            named, stated = map_of(self.path) or modality_of(self.path) or "", stated_modality(self.path)
            stated = DICOM_WORDS.get(stated, "")
            return named if not stated or (stated == "mri" and (named in MR_WORDS or named in MAPS)) else stated
        word = DICOM_WORDS.get(self.modality, "")
        if word != "mri":
            return word
        from clinicalfmamba_nets.io.dicom.choosing import contrast_of

        return contrast_of(self.series) or word

    @cached_property
    def folder_word(self) -> str:
        """What the name of the image's folder says that it shows, a key of `LABELS` or ""."""
        return "" if self.is_series else modality_of(os.path.basename(os.path.dirname(self.path)) or "-") or ""

    @cached_property
    def is_volume(self) -> bool:
        """Whether the image has more than one slice, or is a DICOM series."""
        return len(self.series.slices) > 1 if self.is_series else is_volume(self.path)

    @cached_property
    def color(self) -> bool:
        """Whether the image is in color; a volume is read for it only where its header may say so."""
        if self.is_series:
            from clinicalfmamba_nets.io.dicom.pixel_format import is_color

            return is_color(self.series.header)
        return (not self.is_volume or has_samples(self.path)) and bool(read_image(self.path)[1]["color"])

    @cached_property
    def in_hu(self) -> bool:
        """Whether a volume without a stated modality, read for it, has the values of a CT in HU."""
        if self.is_series or not self.is_volume or self.word or self.color:
            return False
        import torch

        from clinicalfmamba_nets.functional.voi import sample_values
        from clinicalfmamba_nets.transforms.doubts import is_ct_in_hu

        return is_ct_in_hu(sample_values(torch.as_tensor(read_image(self.path)[0])).float())

    @property
    def extension(self) -> str:
        """How a result in the same format is named: ".dcm" for a DICOM series, "" where the format is not told."""
        return ".dcm" if self.is_series else result_extension(self.path)

    def check(self) -> None:
        """Refuse an image that is not there, before anything is opened for it.

        Raises:
            FusionInputError: no such file, or no DICOM series.
        """
        if self.is_series:
            _ = self.series
        else:
            check_file(self.path, "an image file")


@dataclass(frozen=True)
class Case:
    """Two images to be fused, or one file that holds both.

    Args:
        name: name of the case, unlike that of all other cases of a run.
        first: the anatomical image.
        second: the other image; None where `first` holds both.
        error: why the case cannot be fused; "" where it can.
        notes: harmless facts about the choice of the images.
        warnings: what was left out in that choice.
        remote: the archive that the images lie in, or were fetched from; None for files.

    Example:
        >>> Case.of({"case": "7", "image": "MRI/7.png", "image2": "CT/7.png"}).words
        ('mri', 'ct')
    """

    name: str
    first: Source
    second: Source | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remote: Remote | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any] | Case) -> Case:
        """Make a case of an entry of a data list: `case`, `image`, `image2`, `error`."""
        if isinstance(entry, Case):
            return entry
        name, second = str(entry["case"]), entry.get("image2")
        studies: dict[str, Study] = {}
        first, other = Source(entry["image"], studies), Source(second, studies) if second else None
        return cls(name, first, other, entry.get("error", ""))

    @classmethod
    def of_study(cls, study: Study, name: str, selectors: Sequence[str] = (), task: str = "") -> Case:
        """Make a case of two series of an opened study, chosen by selectors, task or rule; see `choose_two`.

        Raises:
            FusionInputError: the choice is not clear, or a series is no volume.
        """
        from clinicalfmamba_nets.io.dicom.opened import OpenedSeries

        pair = study.pair(selectors, task)
        first, second = (Source(OpenedSeries(study, series, told=True)) for series in pair.series)
        notes, warnings = (*study.notes, *pair.notes), (*study.warnings, *pair.warnings)
        return cls(name, first, second, "", notes, warnings)

    @property
    def sources(self) -> list[Source]:
        """The images: two, or one file that holds both."""
        return [source for source in (self.first, self.second) if source is not None]

    @property
    def words(self) -> tuple[str, str]:
        """What both images show, "" where nothing tells. A folder tells nothing of two images that are both in it."""
        if self.second is None:
            return self.first.word, ""
        apart = os.path.dirname(self.first.path) != os.path.dirname(self.second.path)
        first, second = ((one.word or one.folder_word * apart) for one in (self.first, self.second))
        return first, second

    def entry(self) -> dict[str, str]:
        """Return the case as an entry of a data list, its DICOM series opened."""
        paths = [source.opened if source.is_series else source.path for source in self.sources]
        return {"case": self.name, **dict(zip(("image", "image2"), paths, strict=False))}

    def close(self) -> None:
        """Forget what was opened for the case."""
        for source in self.sources:
            source.close()

    def task(self) -> tuple[str, str]:
        """Choose a task by the images; see `choose_task`."""
        words, second = self.words, self.second
        if second is None:
            color = False
        elif second.is_series:  # a screen of a functional image; other series tell by their modality what they are
            color = not words[1] and second.color
        else:
            color = (second.is_volume or not self.first.is_volume) and second.color
        if color and second and words[1] not in ("pet", "spect") and second.folder_word == "pet":
            words = (words[0], "pet")
        series = second is not None and second.is_series
        hu = second is not None and not words[1] and second.in_hu
        return choose_task(words, color, self.first.is_volume, series, hu)

    def in_order(self, task: str) -> tuple[Case, str]:
        """Return the case with the images in the order of a task, and a warning where they had to be exchanged."""
        if self.second is None or not exchanged(task, self.words):
            return self, ""
        first, second = (LABELS[word] for word in self.words)
        told = f"{first} was named first and {second} second: exchanged, the result lies on the grid of the {second}"
        return replace(self, first=self.second, second=self.first), told

    def labels(self, task: str | None) -> tuple[str, str]:
        """Return words to be written above both images.

        They come from what is known of the images, then from a task that the user named, else they are A and B.
        """
        named = find_task(task).labels if task else ("A", "B")
        known = tuple(LABELS.get(word, "") for word in self.words)
        if not any(known):
            return named
        return known[0] or named[0], known[1] or named[1]

    def identity(self) -> dict[str, str]:
        """Return the SHA-256 sums of the images: `image` and `image2`."""
        second = {"image2": self.second.digest} if self.second else {}
        return {"image": self.first.digest, **second}


def file_digest(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file.

    Raises:
        FusionInputError: it cannot be read.
    """
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    except OSError as error:
        found = error.strerror or "an error"
        raise input_error(printable(path), "a file that can be read", found, "check the file and its disk") from error
    return total.hexdigest()


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a result: of a file, or of the files of a folder with their names."""
    if not path.is_dir():
        return file_digest(path)
    parts = [f"{item.name} {file_digest(item)}" for item in sorted(path.iterdir()) if item.is_file()]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()
