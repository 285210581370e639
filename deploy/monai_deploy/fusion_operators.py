"""Operators that fuse a pair with a bundle and write what came out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec
from study_operators import LOGGER, ResultOperator

from clinicalfmamba_nets.engine.fusion.batch import preview_case
from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.inputs import make_folder
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.fusion.results import output_names
from clinicalfmamba_nets.engine.fusion.viewing import write_case_page
from clinicalfmamba_nets.engine.run.tasks import bundle_of, bundle_tasks
from clinicalfmamba_nets.io.files import safe_name
from clinicalfmamba_nets.transforms import SaveFused
from clinicalfmamba_nets.transforms.notes import split_notes

_logger = logging.getLogger(LOGGER)


class FusionOperator(Operator):
    """Fuses a pair by the transforms, network, weights and inferer of a bundle's `inference.json`.

    The SDK's own bundle operator gives the network one image of floats and casts what comes back to 8 bit; a volume
    goes slice by slice through the 2D network here, as everywhere in this project, and keeps its units.

    Args:
        fragment: the application.
        bundle: name of the bundle; None for the one in which the task fuses volumes.
        task: task of the bundle; None to choose by the modalities of both series.
        device: where the network runs; None for the bundle's own choice.
        settings: further settings of the bundle, such as `window_b` or `palette`.

    Named input:
        case: `case`, `image`, `image2`.

    Named output:
        fused: `case`, its images in order, the `task` that was named or None, `sample`, what `FusionPipeline`
            returns, and `made_by`: task, bundle, settings and weights.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        bundle: str | None = None,
        task: str | None,
        device: str | None,
        settings: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.bundle, self.task, self.device, self.settings = bundle, task, device, dict(settings or {})
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input("case")
        spec.output("fused")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Fuse one case."""
        case = Case.of(op_input.receive("case"))
        task = self.task or self._task(case)
        case, exchanged = case.in_order(task)
        bundle = self.bundle or bundle_of(task, case.first.is_volume)
        pipeline = FusionPipeline(task, self.device, bundle=bundle, settings=self.settings)
        _logger.info("%s: %s and %s as %s", case.name, case.first.path, case.second and case.second.path, task)
        sample = pipeline(case.entry())
        for text in filter(None, [exchanged, *split_notes(sample["image"].meta.get("warnings"))]):
            _logger.warning("%s: %s", case.name, text)
        made_by = {"task": task, "bundle": bundle, "settings": self.settings, "weights": pipeline.weights_digest()}
        op_output.emit({"case": case, "task": self.task, "sample": sample, "made_by": made_by}, "fused")

    def _task(self, case: Case) -> str:
        task, note = case.task()
        known = bundle_tasks(self.bundle) if self.bundle else [task]
        task, note = (task, note) if task in known else (known[0], f"taken as {known[0]}")
        _logger.info(note)
        return task


class SeriesWriterOperator(ResultOperator):
    """Writes the fused volume as a derived DICOM series, folder `<case>_fused`, whole or not at all."""

    port = "fused"

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write one series."""
        fused = op_input.receive(self.port)
        sample = fused["sample"]
        save = SaveFused(make_folder(self.output_dir), output_ext=".dcm")
        path = save(sample["pred"], sample["image"].meta, fused["case"].name)
        _logger.info("fused    %s", path)
        if "pred_color" in sample:
            save = SaveFused(make_folder(self.output_dir), "fused_color", ".dcm")
            path = save(sample["pred_color"], sample["image"].meta, fused["case"].name)
            _logger.info("in color %s", path)


class PreviewOperator(ResultOperator):
    """Draws the middle slices of both series and of the fused one, `<case>_preview.png`."""

    port = "fused"

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Draw one picture."""
        fused = op_input.receive(self.port)
        _, name = output_names(fused["case"].name, ".dcm")
        path = preview_case(fused["sample"], fused["case"], fused["task"], make_folder(self.output_dir) / name)
        _logger.info("preview  %s", path)


class PageOperator(ResultOperator):
    """Writes the interactive page of both series and the fused one, `<case>_view.html`, for any browser."""

    port = "fused"

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write one page."""
        fused = op_input.receive(self.port)
        path = make_folder(self.output_dir) / f"{safe_name(fused['case'].name)}_view.html"
        write_case_page(path, fused["case"], fused["sample"], fused["made_by"])
        _logger.info("page     %s", path)
