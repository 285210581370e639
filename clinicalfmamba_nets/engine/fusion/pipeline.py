"""Fuse single pairs by a bundle's inference configuration: its transforms, network, weights and inferer."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.run.devices import named_device
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.overrides import check_data, literal
from clinicalfmamba_nets.engine.run.tasks import IMAGES as BUNDLE
from clinicalfmamba_nets.engine.run.weights import require_weights
from clinicalfmamba_nets.engine.run.workflows import read_bundle, show_progress
from clinicalfmamba_nets.errors import input_error


class FusionPipeline:
    """The parts of a bundle's `inference.json`, opened once and then used pair by pair.

    What `python -m monai.bundle run inference` does to a data list, this does to one pair at a time, so that one bad
    pair does not end a batch. Nothing is defined here that the configuration defines.

    Args:
        task: the setting `task` of the bundle, which chooses graph and weights.
        device: where the network runs; None for the configuration's own choice.
        output_dir: where the configuration's last step writes the fused image; None leaves that step out.
        bundle: name of the bundle.
        output_ext: ending of the written images (".nii.gz", ".png", ".dcm") instead of the first image's.
        register: "rigid" to align the second volume with the first before they are fused, "none" to trust the headers.
        settings: further settings of the bundle, by name.

    Raises:
        FusionInputError: unknown bundle or task, weights that are missing or of another network, no such device, a
            setting that a bundle would run as a program.
    """

    def __init__(
        self,
        task: str,
        device: str | torch.device | None = None,
        output_dir: str | os.PathLike | None = None,
        bundle: str = BUNDLE,
        output_ext: str = "",
        register: str = "none",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundle = bundle
        overrides: dict[str, Any] = check_data({"task": task, **(settings or {})})
        if register != "none":
            show_progress()
            overrides["register"] = register
        if device is not None:
            overrides["device"] = named_device(device)
        if output_dir is not None:
            overrides["output_dir"] = literal(os.fspath(output_dir))
        with user_errors_alone(), torch.random.fork_rng(devices=[]):  # building a network draws its first weights
            get = read_bundle(bundle, "inference", overrides=overrides).get_parsed_content
            plain_network, self.weights = get("network_def"), Path(get("ckpt_path"))
            require_trained(self.weights, task)
            self._digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
            state = require_weights(plain_network, self.weights)
            self.device: torch.device = get("device")
            self.network: torch.nn.Module = get("network").float().eval()  # whatever the default dtype
            self.network.load_state_dict(state)
            self.preprocessing, self.inferer = get("preprocessing"), get("inferer")
            self.postprocessing = get("postprocessing")
        self._savers = [step.saver for step in self.postprocessing.transforms if _writes(step)]
        for saver in self._savers:
            saver.output_ext = output_ext or saver.output_ext
        if output_dir is None:
            self.postprocessing = Compose([step for step in self.postprocessing.transforms if not _writes(step)])

    @classmethod
    def of(cls, options: FuseOptions, task: str, bundle: str, output_dir: str | os.PathLike | None) -> FusionPipeline:
        """Open a bundle with the options of a run."""
        settings = options.bundle_settings()
        return cls(task, options.device, output_dir, bundle, options.output_ext, options.register, settings)

    def __call__(self, pair: Mapping[str, Any], output_dir: str | os.PathLike | None = None) -> dict[str, Any]:
        """Fuse one pair.

        Args:
            pair: an entry of a data list: `image`, `image2` (paths or arrays) and, where files are written, `case`.
                A bundle for single images fuses volumes slice by slice.
            output_dir: folder for the fused image instead of that of the configuration.

        Returns:
            The entry after postprocessing: `image` (2, *spatial) in [0, 1] and `pred`, (1, *spatial) in the units of
            the first image or (3, *spatial) in color.

        Raises:
            FusionInputError: the pair cannot be fused.
        """
        for saver in self._savers:
            saver.output_dir = saver.output_dir if output_dir is None else Path(output_dir)
        with user_errors_alone(), torch.no_grad(), torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            sample = self.preprocessing(dict(pair))
            sample["pred"] = self.inferer(sample["image"][None].to(self.device), self.network)[0]
            return self.postprocessing(sample)

    def weights_digest(self) -> str:
        """Return the SHA-256 of the weights' file as it was read, which tells which training a result is from."""
        return self._digest


def spatial_first(fused: torch.Tensor) -> NDArray:
    """Turn (1, *spatial) into (*spatial), (3, *spatial) into (*spatial, 3), as float32 in main memory."""
    array = np.asarray(torch.as_tensor(fused).detach().cpu().numpy(), dtype=np.float32)
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def require_trained(path: Path, task: str) -> None:
    """Refuse to go on without trained weights: an untrained network is never used.

    Raises:
        FusionInputError: the file is missing; the message tells how to train it.
    """
    if not path.is_file():
        train = f"clinicalfmamba train --task {task} --dataset_dir DIR -o RUN"
        raise input_error(
            path, f"trained weights of {task}", "no such file", f"run `{train}` and copy RUN/model.pt there"
        )


@contextlib.contextmanager
def user_errors_alone() -> Iterator[None]:
    """Take off what MONAI wraps around an error of the user's; other errors pass as they are."""
    try:
        yield
    except Exception as error:
        cause = find_input_error(error)
        if cause is None or cause is error:
            raise
        raise cause from error


def _writes(step: Any) -> bool:
    return type(step).__name__.startswith("Save")
