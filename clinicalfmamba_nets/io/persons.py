"""Of whom an image is, by what programs write of a DICOM header into files of other formats."""

from __future__ import annotations

import re
from collections.abc import Mapping

# What the reader of an image tells of the patient, by DICOM's tag and keyword without spaces and signs.
_KEYS = {
    "patient": ("00100020", "patientid"),
    "patient_name": ("00100010", "patientname", "patientsname"),
    "birth_date": ("00100030", "patientbirthdate", "patientsbirthdate"),
    "sex": ("00100040", "patientsex", "patientssex"),
    "study": ("0020000d", "studyinstanceuid"),
}
# By which a time is found, the first one first: digits of the date's tag, of the time's, and what both are called.
_TAKEN = (("22", "32", "acquisition"), ("23", "33", "content"), ("21", "31", "series"), ("20", "30", "study"))
# In the free texts of a NIfTI header: a number behind its name, and a name with the ^ of DICOM.
_NUMBER = re.compile(r"patient[ _]?(?:id|no|number)\b[ :=#]*([a-z0-9][\w.-]*)", re.IGNORECASE)
_NAME = re.compile(r"(?<![^\s:=])[^\W\d_][^\W\d_' -]*\^[^\W\d_][^\W\d_'^ -]*")


def stated_person(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what the fields of a header say of the patient and of the time, by the keys of `read_image`.

    ITK and its programs write DICOM's elements by their tag ("0010|0020") into NRRD and MetaImage, others by keyword.

    Args:
        fields: texts by their names, as they stand in the header.

    Example:
        >>> stated_person({"0010|0020": "P7 ", "0008|0022": "20240101", "Patient Name": "Test^Head"})
        {'patient': 'P7', 'patient_name': 'Test^Head', 'taken': '20240101'}
    """
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): value.strip(" \0") for name, value in fields.items()}
    plain = {name.removeprefix("dicom"): value for name, value in plain.items() if value}
    plain |= {name[:8]: value for name, value in plain.items() if re.match(r"00(?:08|10|20)00\w\w[a-z]", name)}
    found = {key: next((plain[name] for name in names if name in plain), "") for key, names in _KEYS.items()}
    for day, hour, what in _TAKEN:
        date = re.sub(r"\D", "", plain.get(f"000800{day}") or plain.get(f"{what}date", ""))
        time = re.sub(r"\..*|\D", "", plain.get(f"000800{hour}") or plain.get(f"{what}time", ""))
        if len(date) == 8:
            found["taken"] = date + time
            break
    return {key: value for key, value in found.items() if value}


def person_in_text(*texts: str) -> dict[str, str]:
    """Return what free texts say of the patient by the word PatientID, or by a name as DICOM writes it.

    Example:
        >>> person_in_text("PatientID P-7 of site X"), person_in_text("TEST^HEAD"), person_in_text("TE=2.9;Time=1245.1")
        ({'patient': 'P-7'}, {'patient_name': 'TEST^HEAD'}, {})
    """
    number = next(filter(None, map(_NUMBER.search, texts)), None)
    name = next(filter(None, map(_NAME.search, texts)), None)
    found = {"patient": number[1] if number else "", "patient_name": name[0] if name else ""}
    return {key: value for key, value in found.items() if value}
