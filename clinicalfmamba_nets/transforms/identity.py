"""Whether both images of a pair are of one patient, and of one time; no name, number or date is repeated."""

from __future__ import annotations

from datetime import datetime, timedelta

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.transforms.names import names_warning, other_patient
from clinicalfmamba_nets.transforms.sources import Source

_STUDY = "StudyInstanceUID (0020,000D)"
_LATER = timedelta(hours=24)


def check_patient(first: Source, second: Source) -> list[str]:
    """Refuse DICOM series of two patients, and warn of one whose name, birth date or sex changes.

    Args:
        first: one image.
        second: the other one.

    Returns:
        A warning for each element that differs though the PatientID is one.

    Raises:
        FusionInputError: the PatientIDs differ, or what else tells patients apart where one has none.
    """
    tags = (
        ("PatientID (0010,0020)", first.patient, second.patient),
        ("PatientBirthDate (0010,0030)", first.birth_date, second.birth_date),
        ("PatientSex (0010,0040)", _known_sex(first.sex), _known_sex(second.sex)),
        ("PatientName (0010,0010)", _plain_name(first.patient_name), _plain_name(second.patient_name)),
    )
    told = _check_names(first, second)
    both = bool(first.patient and second.patient)
    unlike = [tag for tag, one, other in tags if one and other and one != other]
    if unlike and (unlike[0] == tags[0][0] or not both):
        name, number = unlike[0].split()
        expected, found = f"the patient {number} of {first.name}", f"another one ({name})"
        raise input_error(second.name, expected, found, "choose series of one patient")
    if both and first.issuer and second.issuer and first.issuer.casefold() != second.issuer.casefold():
        unlike.append("IssuerOfPatientID (0010,0021)")  # two hospitals, which give one number to two persons
    return [*told, *(f"the same PatientID with another {tag}: make sure that both are one patient" for tag in unlike)]


def compare_times(first: Source, second: Source) -> tuple[list[str], list[str]]:
    """Tell of images of two studies, and of a day or more between their acquisitions.

    Args:
        first: one image.
        second: the other one.

    Returns:
        Notes; and warnings where the patient may have changed in between.

    Example:
        >>> import numpy as np
        >>> one, two = (Source(np.zeros((2, 2)), "a", study="1.2", taken=day) for day in ("20240101", "20240115"))
        >>> compare_times(one, two)[1]
        ['acquired 14 days apart: what grew, bled or was operated in between is shown by one of both alone']
    """
    two = bool(first.study and second.study and first.study != second.study)
    one, other = _moment(first.taken), _moment(second.taken)
    if one is None or other is None:
        told = f"of two studies ({_STUDY}), without the times of both: what changed in between is shown by one alone"
        return [], [told] if two else []
    apart = abs(one - other)
    if apart >= _LATER or (one.date() != other.date() and not (_timed(first.taken) and _timed(second.taken))):
        days = max(1, round(apart / timedelta(days=1)))
        span = "1 day" if days == 1 else f"{days} days"
        what = "what grew, bled or was operated in between is shown by one of both alone"
        return [], [f"{f'of two studies ({_STUDY}), ' if two else ''}acquired {span} apart: {what}"]
    if not two:
        return [], []
    minutes = round(apart.total_seconds() / 60)
    span = f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    exact = _timed(first.taken) and _timed(second.taken)
    return [f"of two studies ({_STUDY}), acquired {f'{span} apart' if exact else 'on one day'}"], []


def _check_names(first: Source, second: Source) -> list[str]:
    """Warn of files whose names, or those of their folders, say two subjects, sessions or numbers of patients."""
    media = "dicom" in (first.kind, second.kind)  # whose folders are numbered by series
    told = names_warning(first.name, first.path, second.path, not media)
    if not told and other_patient(first.label, second.label):
        told = f"numbered otherwise in its header (db_name) than {first.name}: make sure that both are one patient"
    return [told] if told else []


def _known_sex(sex: str) -> str:
    return sex.strip().upper() if sex.strip().upper() in ("F", "M") else ""


def _plain_name(name: str) -> str:
    """Family and given name without case, order of components, and what is written between them."""
    return " ".join(sorted(name.partition("=")[0].replace("^", " ").replace(",", " ").casefold().split()[:2]))


def _timed(text: str) -> bool:
    return text[8:14].isdigit() and len(text[8:14]) >= 4


def _moment(text: str) -> datetime | None:
    """Read the digits of a date and a time, to the minute; without a time its beginning of the day."""
    try:
        return datetime.strptime(text[:12] if _timed(text) else text[:8] + "0000", "%Y%m%d%H%M")
    except ValueError:
        return None
