"""The layout of BIDS: `sub-01/[ses-a/]anat/sub-01_[entities_]T2w.nii.gz`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, image_extension, printable

_WHO = ("sub-", "ses-")


def bids_images(folder: Path, suffixes: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Find the images of each subject and session.

    Source: "The Brain Imaging Data Structure", bids-specification.readthedocs.io, file names.

    Args:
        folder: the data set; `derivatives` and all that is not a subject are left out.
        suffixes: the last words of names that are looked for, in lower case, and the modality of each.

    Returns:
        Case (`sub-01`, `sub-01_ses-a`; with further entities where one modality has several images) -> modality ->
        file.

    Raises:
        FusionInputError: two images of one modality whose names tell no difference, such as .nii beside .nii.gz.
    """
    visits: dict[str, list[tuple[str, str, Path]]] = defaultdict(list)
    for subject in sorted(item for item in folder.glob("sub-*") if item.is_dir()):
        for item in sorted([*subject.glob("*/*"), *subject.glob("ses-*/*/*")]):
            words = case_name(item.name).split("_")
            modality = suffixes.get(words[-1].lower())
            if not modality or words[0] != subject.name or not image_extension(item) or not item.is_file():
                continue
            if modality == "t1" and any(word.startswith("ce-") for word in words):
                modality = "t1ce"
            visit = "_".join(word for word in words if word.startswith(_WHO))
            visits[visit].append((modality, "_".join(words[:-1]), item))
    cases: dict[str, dict[str, Path]] = defaultdict(dict)
    for visit, images in visits.items():
        modalities = [modality for modality, _, _ in images]
        single = len(modalities) == len(set(modalities))
        for modality, entities, item in images:
            other = cases[visit if single else entities].setdefault(modality, item)
            halves = {image_extension(other), image_extension(item)} == {".hdr", ".img"}
            if other is not item and not (halves and other.parent == item.parent):
                found = " and ".join(printable(image.relative_to(folder)) for image in (other, item))
                expected = f"one {modality} image of each subject, session and entities"
                raise input_error(printable(folder), expected, found, "remove one of them, or give a data list")
    return cases
