"""Fusion of two images as an inference task of MONAI Label."""

from __future__ import annotations

import json
import logging
import tempfile
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.options import BUNDLE_SETTINGS
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.run.tasks import bundle_tasks
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.transforms import SaveFused
from clinicalfmamba_nets.transforms.notes import split_notes
from lib.pairs import PairTask, device_of, metadata, text_of

_logger = logging.getLogger(__name__)
MOST_PIPELINES = 8  # kept open; each has a network of its own


class FusionTask(PairTask):
    """Fuses the images of a request by a bundle; the result has the format, grid and units of the first one.

    A request may hold `task`, where it is to be another than what the images tell.

    Args:
        bundle: name of the bundle.
        image_uri: see `PairTask`.
        conf: settings of the app; none is used.

    A request may also hold the settings of a bundle that `BUNDLE_SETTINGS` names: `window_a`, `window_b`, `palette`,
    `allow_partial`. With a palette the result is in color.
    """

    def __init__(self, bundle: str, image_uri: Callable[[str], str], conf: Mapping[str, str]) -> None:
        self.pipelines: dict[str, FusionPipeline] = {}
        dimension = len(metadata(bundle)["network_data_format"]["inputs"]["image"]["spatial_shape"])
        super().__init__(bundle, image_uri, InferType.OTHERS, {}, dimension, {"task": bundle_tasks(bundle)})

    def is_valid(self) -> bool:
        """Tell whether the bundle has weights."""
        return any((find_bundle(self.bundle) / "models").glob("*.pt"))

    def answer(self, request: Mapping[str, Any], pair: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Fuse the images of a request; see `PairTask.answer`."""
        case = Case.of({"case": "request", **pair})
        task, notes = self._task(request, case)
        case, exchanged = case.in_order(task)
        asked = {name: request[name] for name in BUNDLE_SETTINGS if request.get(name) not in (None, "")}
        pipeline = self._pipeline(task, device_of(request), asked)
        sample = pipeline({key: value for key, value in case.entry().items() if key != "case"})
        meta = sample["image"].meta
        fused = SaveFused(tempfile.gettempdir())(sample.get("pred_color", sample["pred"]), meta, uuid.uuid4().hex)
        _logger.info("%s %s: %s", self.bundle, task, fused)
        notes += [*filter(None, [exchanged]), *split_notes(meta.get("warnings")), *split_notes(meta.get("notes"))]
        return str(fused), {"task": task, "notes": notes, "weights_sha256": pipeline.weights_digest()}

    def _task(self, request: Mapping[str, Any], case: Case) -> tuple[str, list[str]]:
        """Return the task that a request names, else the one that its images tell, and what is said about it."""
        named = text_of(request, "task")
        if named:
            return named, []
        task, note = case.task()
        known = bundle_tasks(self.bundle)
        return (task, [note]) if task in known else (known[0], [f"taken as {known[0]}; task names another"])

    def _pipeline(self, task: str, device: str | None, asked: Mapping[str, Any]) -> FusionPipeline:
        key = json.dumps([task, device, asked], sort_keys=True)
        found = self.pipelines.pop(key, None) or FusionPipeline(task, device, bundle=self.bundle, settings=asked)
        self.pipelines[key] = found
        while len(self.pipelines) > MOST_PIPELINES:
            self.pipelines.pop(next(iter(self.pipelines)), None)  # the one that was asked longest ago
        return found
