"""MONAI Label app with the bundles: `monailabel start_server --app deploy/monai_label --studies DIR`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException
from lib.fusion import FusionTask
from lib.grading import GradingTask
from lib.pairs import PairTask
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask

from clinicalfmamba_nets import __version__
from clinicalfmamba_nets.engine.run.workflows import list_bundles
from clinicalfmamba_nets.errors import input_error

# What serves each bundle.
TASKS: dict[str, Callable[[str, Callable[[str], str], Mapping[str, str]], PairTask]] = {
    "fusion_2d": FusionTask,
    "fusion_3d": FusionTask,
    "glioma_grading": GradingTask,
}


class ClinicalFMambaApp(MONAILabelApp):
    """Serves every bundle of `TASKS` that can be asked, or those of `--conf models NAME,NAME`.

    Args:
        app_dir: folder of this file.
        studies: folder with the images of the data store.
        conf: settings of the command line: `models`, and those that a task knows.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="ClinicalFMamba",
            description="Fusion of two registered images of one head, and grading. Research only; not for diagnosis.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return the tasks by name.

        Raises:
            FusionInputError: `models` names a bundle that is not served, or one that cannot be found.
        """
        found = list_bundles()
        named = [name.strip() for name in self.conf.get("models", "").split(",") if name.strip()]
        for name in named:
            if name not in TASKS or name not in found:
                known = ", ".join(name for name in TASKS if name in found) or "no bundle"
                raise input_error(f"--conf models {name}", "a bundle that is served", known, "choose among these")
        image_uri = self.datastore().get_image_uri
        tasks = {name: TASKS[name](name, image_uri, self.conf) for name in named or TASKS if name in found}
        return {name: task for name, task in tasks.items() if named or task.is_valid()}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a task; status 404 for one that is not served."""
        if request.get("model") not in self._infers:
            raise HTTPException(404, f"model {request.get('model')!r}: expected one of {', '.join(self._infers)}")
        return super().infer(request, datastore)
