"""A path of a DICOM series that brings the opened series with it, so that its headers are read once in a run."""

from __future__ import annotations

from typing import Any

from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.study import Study


class OpenedSeries(str):
    """`folder::selector`, a text like any other path, with the study and the series that it names.

    Readers and writers take the series from it instead of looking for it again. Copies and what another process is
    handed are the plain path.

    Args:
        study: the opened study.
        series: one of its series.
        told: whether the notes and warnings of the whole study were passed on already.
    """

    study: Study
    series: Series
    told: bool

    def __new__(cls, study: Study, series: Series, told: bool = False) -> OpenedSeries:
        """Name a series of a study."""
        opened = super().__new__(cls, study.path_of(series))
        opened.study, opened.series, opened.told = study, series, told
        return opened

    def __copy__(self) -> OpenedSeries:
        return self

    def __deepcopy__(self, memo: Any) -> OpenedSeries:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)
