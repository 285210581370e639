"""Fusion of two images as an inference task of MONAI Label."""

from __future__ import annotations

import json
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from os import path as paths
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from clinicalfmamba_nets.engine.bundles import VOLUMES, find_bundle
from clinicalfmamba_nets.engine.fuse import FusionPipeline
from clinicalfmamba_nets.engine.info import bundle_tasks
from clinicalfmamba_nets.engine.inputs import choose_task, volume_task
from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io import is_dicom
from clinicalfmamba_nets.transforms import SaveFused

_logger = logging.getLogger(__name__)
UNPROCESSABLE = 422


class FusionTask(InferTask):
    """Fuses the image of a request with a second one, by a bundle.

    The second image is `image2` of the request's `params` (an image of the data store, or a path on the server), or a
    file uploaded as `label`; none where the first image holds both as its channels. The result has the format, grid
    and units of the first image.

    Args:
        bundle: name of the bundle.
        image_uri: gives the path of an image of the data store by its name, "" for one that is not there.
    """

    def __init__(self, bundle: str, image_uri: Callable[[str], str]) -> None:
        self.bundle, self.image_uri = bundle, image_uri
        self.tasks = bundle_tasks(bundle)
        self.pipelines: dict[tuple[str, str | None], FusionPipeline] = {}
        metadata = json.loads((find_bundle(bundle) / "configs" / "metadata.json").read_text(encoding="utf-8"))
        dimension = len(metadata["network_data_format"]["inputs"]["image"]["spatial_shape"])
        super().__init__(InferType.OTHERS, {}, dimension, metadata["description"], {"task": self.tasks})

    def is_valid(self) -> bool:
        """Tell whether the bundle has weights."""
        return any((find_bundle(self.bundle) / "models").glob("*.pt"))

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Fuse the images of a request.

        Args:
            request: `image`, and `image2` or `label` (see the class); `task` and `device` where they are to be others
                than what the images tell and the bundle chooses.

        Returns:
            The path of the result, which the server sends and removes, and what is to be told of it.

        Raises:
            HTTPException: status 422 with the cause, for images that cannot be fused and settings that are not known.
        """
        started = time.monotonic()
        names = {"image": request["image"], "image2": request.get("image2") or request.get("label") or ""}
        try:
            pair = {"image": names["image"], "image2": self._second(names["image2"])}
            _refuse_dicom(pair)
            task, notes = self._task(request, pair["image2"])
            pipeline = self._pipeline(task, request.get("device"))
            sample = pipeline({key: value for key, value in pair.items() if value})
            meta = sample["image"].meta
            fused = SaveFused(tempfile.gettempdir())(sample["pred"], meta, uuid.uuid4().hex)
        except FusionInputError as error:
            raise HTTPException(UNPROCESSABLE, _told(str(error), names)) from error
        _logger.info("%s %s: %s", self.bundle, task, fused)
        notes += filter(None, [_told(meta.get("notes", ""), names)])
        told = {"task": task, "notes": notes, "weights_sha256": pipeline.weights_digest(), "label_names": {}}
        return str(fused), {**told, "seconds": round(time.monotonic() - started, 3)}

    def _second(self, name: Any) -> str:
        if not isinstance(name, str):
            raise input_error("image2", "the name or path of an image", repr(name), "name one image")
        if not name or paths.exists(name):
            return name
        found = self.image_uri(name)
        if not found:
            raise input_error("image2", "an image of the data store or a path on the server", name, "check the name")
        return found

    def _task(self, request: Mapping[str, Any], image2: str) -> tuple[str, list[str]]:
        named = request.get("task")
        if isinstance(named, str) and named:
            return named, []
        if self.bundle == VOLUMES:
            task, note = volume_task(image2 if request.get("image2") else "")  # an uploaded file has lost its name
        else:
            task, note = choose_task(image2)
        return task, [note]

    def _pipeline(self, task: str, device: Any) -> FusionPipeline:
        key = (task, device if isinstance(device, str) and device else None)
        if key not in self.pipelines:
            self.pipelines[key] = FusionPipeline(task, key[1], bundle=self.bundle)
        return self.pipelines[key]


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
