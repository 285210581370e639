"""A request about two images of one head: how they are named, and how it is answered."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from os import path as paths
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import is_dicom

UNPROCESSABLE = 422


class PairTask(InferTask):
    """Runs a bundle on the image of a request and a second one.

    The second image is `image2` of the request's `params` (an image of the data store, or a path on the server), or a
    file uploaded as `label`; none where the first image holds both as its channels.

    Args:
        bundle: name of the bundle.
        image_uri: gives the path of an image of the data store by its name, "" for one that is not there.
        kind: what the bundle does, in the server's words.
        labels: as MONAI Label's tasks have them.
        dimension: of the images.
        config: what a request may set, and its choices.
    """

    def __init__(
        self,
        bundle: str,
        image_uri: Callable[[str], str],
        kind: InferType,
        labels: Mapping[str, int],
        dimension: int,
        config: Mapping[str, Any],
    ) -> None:
        self.bundle, self.image_uri = bundle, image_uri
        super().__init__(kind, dict(labels), dimension, metadata(bundle)["description"], dict(config))

    @abstractmethod
    def answer(self, request: Mapping[str, Any], pair: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Return the path of the result, which the server sends and removes, and what is to be told of it.

        Args:
            request: its settings.
            pair: paths of `image` and `image2`, the latter "" where there is none.

        Raises:
            FusionInputError: the images or settings cannot be used.
        """

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Answer a request.

        Args:
            request: `image`, and `image2` or `label` (see the class); `device` where it is to be another than what the
                bundle chooses; what the task itself knows.

        Returns:
            As `answer`, with the seconds that it took.

        Raises:
            HTTPException: status 422 with the cause, for images that cannot be used and settings that are not known.
        """
        started = time.monotonic()
        second = request.get("image2")
        second = request.get("label") or "" if second in (None, "") else second
        names = {"image": request["image"], "image2": second}
        try:
            pair = {"image": names["image"], "image2": self._second(names["image2"])}
            _refuse_dicom(pair)
            file, told = self.answer(request, pair)
        except FusionInputError as error:
            raise HTTPException(UNPROCESSABLE, _told(str(error), names)) from error
        notes = [_told(note, names) for note in told["notes"]]
        return file, {**told, "notes": notes, "label_names": {}, "seconds": round(time.monotonic() - started, 3)}

    def _second(self, name: Any) -> str:
        if not isinstance(name, str):
            raise input_error("image2", "the name or path of an image", repr(name), "name one image")
        if not name or paths.exists(name):
            return name
        found = self.image_uri(name)
        if not found:
            raise input_error("image2", "an image of the data store or a path on the server", name, "check the name")
        return found


def metadata(bundle: str) -> dict[str, Any]:
    """Return what a bundle's `metadata.json` says."""
    return json.loads((find_bundle(bundle) / "configs" / "metadata.json").read_text(encoding="utf-8"))


def text_of(request: Mapping[str, Any], name: str) -> str:
    """Return a setting of a request that is a text, "" where it is left out.

    Raises:
        FusionInputError: it is something else.
    """
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise input_error(name, "a text", repr(value), "name one, or leave it out")
    return value or ""


def device_of(request: Mapping[str, Any]) -> str | None:
    """Return the device that a request names, None for the bundle's own choice; raises as `text_of`."""
    return text_of(request, "device") or None


def _told(text: str, names: Mapping[str, Any]) -> str:
    """Name the images as the request does: uploaded files have names of the server's own."""
    for key, value in names.items():
        text = text.replace(value, key) if isinstance(value, str) and paths.isabs(value) else text
    return text.replace("--task", "task")


def _refuse_dicom(pair: Mapping[str, str]) -> None:
    """Refuse DICOM: its reader needs pydicom 3, beside which MONAI Label does not start."""
    for key, value in pair.items():
        if value and is_dicom(value):
            remedy = "name an image of a DICOMweb data store, which MONAI Label converts, or convert it yourself"
            raise input_error(key, "NIfTI, NRRD or PNG", "DICOM", remedy)
