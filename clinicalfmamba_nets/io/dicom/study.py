"""A DICOM study that is opened once: one walk, each header read once, its series listed and chosen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom.choosing import Pair, choose_series, choose_two
from clinicalfmamba_nets.io.dicom.completeness import tell_lost_slices
from clinicalfmamba_nets.io.dicom.files import SELECTOR, find_dicom_files, renamed, split_selector
from clinicalfmamba_nets.io.dicom.header import Header, quiet_pydicom, read_header
from clinicalfmamba_nets.io.dicom.series import Series, build_series, find_scouts
from clinicalfmamba_nets.io.files import PathLike, printable


@dataclass
class Study:
    """The series below one folder, DICOMDIR, archive or list of files.

    Args:
        path: what was opened, without a selector.
        series: one entry for each series and contrast, sorted by modality, description and number.
        notes: files that are no DICOM and the like.
        warnings: files that could not be read.

    Example:
        >>> study = open_study("study")  # doctest: +SKIP
        >>> study.pair().series[0].description, study.choose("CT").shape  # doctest: +SKIP
        ('AX T2', (512, 512, 24))
    """

    path: Path
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path, printable."""
        return printable(self.path)

    def choose(self, selector: str = "") -> Series:
        """Return one series by a selector, see `choose_series`."""
        return choose_series(self.series, selector, self.name)

    def pair(self, selectors: Sequence[str] = (), task: str = "", option: str = "--series {} --series {}") -> Pair:
        """Return the two series that are to be fused, see `choose_two`; `option` is how a user names both."""
        return choose_two(self.series, selectors, self.name, option, task)

    def path_of(self, series: Series) -> str:
        """Return `folder::selector` of a series, for what takes paths."""
        return f"{self.path}{SELECTOR}{series.selector}"

    def text(self) -> str:
        """The table of the series, one line each."""
        good = sum(not row.problem for row in self.series)
        told = [*(f"warning: {text}" for text in self.warnings), *(f"note: {text}" for text in self.notes)]
        count = f"{len(self.series)} series, {good} of them volumes that can be fused"
        return "\n".join([*(row.text() for row in self.series), *told, count])


def open_study(path: PathLike | Sequence[PathLike]) -> Study:
    """Find the series of a folder, DICOMDIR, ZIP archive, file or list of files, without reading any pixels.

    Args:
        path: where they are; a selector behind `::` is ignored here.

    Returns:
        The study; series that cannot be read have `problem`.

    Raises:
        FusionInputError: nothing is there, or none of it is DICOM.
    """
    files, notes, absent = find_dicom_files(path)
    listed = isinstance(path, Sequence) and not isinstance(path, str | bytes)
    where = Path("list of files") if listed else split_selector(path)[0]  # type: ignore[arg-type]
    headers: list[Header] = []
    broken: dict[Path, str] = {}
    with quiet_pydicom():
        for file in files:
            try:
                headers.append(read_header(file))
            except FusionInputError as error:
                broken[file] = renamed(str(error), where)
    if not headers:
        raise FusionInputError(next(iter(broken.values())))
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series or str(header.path)].append(header)
    rows = [row for group in groups.values() for row in build_series(group)]
    rows.sort(key=lambda row: (_number(row.header.number), row.header.series))
    for number, row in enumerate(rows, 1):
        row.row = number
    find_scouts(rows)
    tell_lost_slices(rows, groups)
    study = Study(where, rows, notes)
    _tell_lost(study, absent, broken)
    _shorten(rows)
    return study


def list_series(path: PathLike | Sequence[PathLike]) -> list[Series]:
    """Return the series of a study that is opened for this alone, see `open_study`; each has its notes."""
    study = open_study(path)
    for row in study.series:
        row.notes += study.notes if row.image else []
    return study.series


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.lstrip("-").isdigit() else (10**9, text)


def _tell_lost(study: Study, absent: Sequence[Path], broken: dict[Path, str]) -> None:
    """Give series that may lack files that are absent or unreadable this as their problem."""
    lost = {file.parent: file for file in absent}
    images = [row for row in study.series if row.image]
    for row in images:
        near = next((lost[item.path.parent] for item in row.slices if item.path.parent in lost), None)
        if near:
            what = f"no {printable(near.name)}, which the DICOMDIR names"
            row.problem = row.problem or f"expected all its files, found {what}; copy the whole medium"
    for file, text in broken.items():
        name, _, rest = text.partition(": ")
        beside = [row for row in images if any(item.path.parent == file.parent for item in row.slices)]
        for row in beside or images:  # nobody can tell to which series a file without a header belongs
            row.problem = row.problem or f"{rest} ({name})"
    if broken:
        names = ", ".join(printable(file.name) for file in list(broken)[:5])
        study.warnings.append(f"cannot be read, left out: {names}" + (" and more" if len(broken) > 5 else ""))


def _shorten(rows: Sequence[Series]) -> None:
    """Give each series what chooses it alone in as few words as can be: modality, else number, else its UID."""
    images = [row for row in rows if row.image and not row.role] or list(rows)
    modalities = Counter(row.modality.upper() for row in images)
    numbers = Counter(row.header.number for row in rows)
    parts = Counter(row.header.series for row in rows)
    for row in rows:
        if (
            not row.role
            and modalities[row.modality.upper()] == 1
            and row.modality
            and row.modality == row.header.modality
        ):
            row.short = row.modality
        elif row.header.number and numbers[row.header.number] == parts[row.header.series]:
            row.short = ",".join(filter(None, [row.header.number, row.split]))
        else:
            row.short = row.selector


def choose_pair(path: PathLike, selectors: Sequence[str] = ()) -> tuple[str, str]:
    """Return the two series of a study that are to be fused as paths `folder::selector`, see `choose_two`."""
    study = open_study(path)
    first, second = study.pair(selectors).series
    return study.path_of(first), study.path_of(second)
