"""A result in words written as a DICOM object: Basic Text SR, in the study of the series that it is about.

Source: DICOM PS3.3, A.35.1 (Basic Text SR), C.17.2 and C.17.3 (document and content); PS3.16, TID 1001 and 1004 (a
device as the observer).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from clinicalfmamba_nets.io.dicom.copying import told_text
from clinicalfmamba_nets.io.dicom.header import quiet_pydicom
from clinicalfmamba_nets.io.dicom.modules import MODEL, NOTICE, coded, instance_reference
from clinicalfmamba_nets.io.dicom.objects import new_object
from clinicalfmamba_nets.io.dicom.series import Series
from clinicalfmamba_nets.io.dicom.write import source_series
from clinicalfmamba_nets.io.files import PathLike, atomic_file

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SCHEME, SCHEME_NAME = "99CFMAMBA", "ClinicalFMamba for MONAI"
_NUMBER = 20000  # of the series: that of the source and this
# What an item is about: value, scheme and meaning of its code.
Concept = tuple[str, str, str]
COMMENT: Concept = ("121106", "DCM", "Comment")


def own_concept(value: str, meaning: str) -> Concept:
    """Return a concept of this software's own coding scheme, for what no public one names.

    Example:
        >>> own_concept("GRADE", "Grade")
        ('GRADE', '99CFMAMBA', 'Grade')
    """
    return value, SCHEME, meaning


def write_report(
    path: PathLike,
    title: Concept,
    items: Sequence[tuple[Concept, str]],
    sources: Sequence[PathLike],
    model: str,
) -> None:
    """Write texts as a DICOM Basic Text SR, whole or not at all.

    Patient and study are those of the first source; all images of the sources are referenced. The document is marked
    as unverified and names this software as its observer; its first text is the notice that it is not for diagnosis.

    Args:
        path: file to be written.
        title: of the document.
        items: texts and what each is about, in the order in which they are to be read.
        sources: the DICOM series (`folder::selector`) that the result was made from.
        model: what tells the network and its weights from others, such as their SHA-256.

    Raises:
        FusionInputError: a source is no DICOM series.

    Example:
        >>> write_report("grade.dcm", title, [(COMMENT, "as it seems")], ["study::MR"], "a1b2")  # doctest: +SKIP
    """
    series = [source_series(source, path) for source in sources]
    with quiet_pydicom():
        made = _header(series[0])
        made.ConceptNameCodeSequence = [coded(*title)]
        made.ContentSequence = [*_observer(model), _text((COMMENT, f"{NOTICE}."))]
        made.ContentSequence.extend(_text((concept, told_text(text, made))) for concept, text in items)
        own, others = _evidence(series, str(made.StudyInstanceUID))
        if own:
            made.CurrentRequestedProcedureEvidenceSequence = own
        if others:
            made.PertinentOtherEvidenceSequence = others
        with atomic_file(path) as partial:
            made.save_as(partial, enforce_file_format=True)


def _header(series: Series) -> Any:
    """Build all of the document but its content."""
    from pydicom.dataset import Dataset

    made = new_object(series, BASIC_TEXT_SR, "SR", _NUMBER, f"result of {MODEL}")
    made.ReferencedPerformedProcedureStepSequence, made.PerformedProcedureCodeSequence = [], []
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, SCHEME_NAME
    made.CodingSchemeIdentificationSequence = [scheme]
    return made


def _item(relationship: str, kind: str, concept: Concept) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    made.RelationshipType, made.ValueType, made.ConceptNameCodeSequence = relationship, kind, [coded(*concept)]
    return made


def _text(item: tuple[Concept, str], relationship: str = "CONTAINS") -> Any:
    concept, text = item
    made = _item(relationship, "TEXT", concept)
    made.TextValue = text
    return made


def _observer(model: str) -> list[Any]:
    """Name this software as the observer; another model is another device."""
    relationship = "HAS OBS CONTEXT"
    kind = _item(relationship, "CODE", ("121005", "DCM", "Observer Type"))
    kind.ConceptCodeSequence = [coded("121007", "DCM", "Device")]
    device = _item(relationship, "UIDREF", ("121012", "DCM", "Device Observer UID"))
    device.UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{MODEL} {model}').int}"
    return [kind, device, _text((("121015", "DCM", "Device Observer Model Name"), MODEL), relationship)]


def _evidence(series: Sequence[Series], study: str) -> tuple[list[Any], list[Any]]:
    """List the images of the sources by study and series: those of the document's own study, and of others."""
    from pydicom.dataset import Dataset

    found: dict[str, dict[str, dict[str, Any]]] = {}
    for item in series:
        named = [part for part in item.slices if part.uid and item.headers[part.path].sop_class]
        if named and item.header.series:
            images = found.setdefault(item.header.study or study, {}).setdefault(item.header.series, {})
            images.update({part.uid: instance_reference(item, part) for part in named})
    own: list[Any] = []
    others: list[Any] = []
    for uid, parts in found.items():
        entry = Dataset()
        entry.StudyInstanceUID, entry.ReferencedSeriesSequence = uid, []
        for number, images in parts.items():
            listed = Dataset()
            listed.SeriesInstanceUID, listed.ReferencedSOPSequence = number, list(images.values())
            entry.ReferencedSeriesSequence.append(listed)
        (own if uid == study else others).append(entry)
    return own, others
