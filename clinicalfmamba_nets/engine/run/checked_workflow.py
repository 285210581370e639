"""MONAI's workflow of a configuration, with the names and kinds of its overrides checked before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple

from clinicalfmamba_nets.engine.run.failures import tell_errors_in_one_line
from clinicalfmamba_nets.engine.run.overrides import checked_overrides


class CheckedWorkflow(ConfigWorkflow):
    """A ConfigWorkflow that refuses an override whose name, or kind of value, its configurations do not know.

    MONAI itself takes any name in silence. Name it where MONAI takes a workflow's name:
    `python -m monai.bundle run training --workflow_name clinicalfmamba_nets.engine.CheckedWorkflow ...`.

    Args:
        config_file: the configurations, later ones laid over earlier ones.
        meta_file: as in ConfigWorkflow.
        logging_file: as in ConfigWorkflow.
        tracking: as in ConfigWorkflow.
        init_id: as in ConfigWorkflow.
        run_id: as in ConfigWorkflow.
        final_id: as in ConfigWorkflow.
        workflow_type: as in ConfigWorkflow.
        properties_path: as in ConfigWorkflow.
        override: ids and values that replace those of the configurations; the words true and false are truth values
            where one is expected.

    Raises:
        FusionInputError: an override is wrong; the nearest known name is told.
    """

    def __init__(
        self,
        config_file: str | Sequence[str],
        meta_file: str | Sequence[str] | None = None,
        logging_file: str | bool | None = None,
        *,
        tracking: str | dict | None = None,
        init_id: str = "initialize",
        run_id: str = "run",
        final_id: str = "finalize",
        workflow_type: str | None = "train",
        properties_path: str | None = None,
        **override: Any,
    ) -> None:
        tell_errors_in_one_line()
        files = ensure_tuple(config_file) if config_file else ()
        super().__init__(
            config_file,
            meta_file=meta_file,
            logging_file=logging_file,
            tracking=tracking,
            init_id=init_id,
            run_id=run_id,
            final_id=final_id,
            workflow_type=workflow_type,
            properties_path=properties_path,
            **checked_overrides(override, files),
        )
