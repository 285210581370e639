"""Fuse single pairs by a bundle's inference configuration: its transforms, network, weights and inferer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.fusion.volumes import fuse_volume, is_volume_case
from clinicalfmamba_nets.engine.run.devices import named_device
from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.weights import read_weights, require_weights
from clinicalfmamba_nets.engine.run.workflows import IMAGES as BUNDLE
from clinicalfmamba_nets.engine.run.workflows import VOLUMES, find_bundle, open_bundle, show_progress
from clinicalfmamba_nets.errors import FusionWarning, input_error
from clinicalfmamba_nets.io import printable


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
        FusionInputError: unknown bundle or task, weights that are missing or of another network, no such device.
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
        self.bundle, self.register = bundle, register
        overrides: dict[str, Any] = {"task": task, **(settings or {})}
        if register != "none":
            show_progress()
            overrides |= {"register": register} if bundle == VOLUMES else {}
        if device is not None:
            overrides["device"] = named_device(device)
        if output_dir is not None:
            overrides["output_dir"] = os.fspath(output_dir)
        with user_errors_alone():
            get = open_bundle(bundle, "inference", overrides=overrides).parser.get_parsed_content
            plain_network, self.weights = get("network_def"), Path(get("ckpt_path"))
            require_trained(self.weights, task)
            require_weights(plain_network, self.weights)
            self.device: torch.device = get("device")
            self.network: torch.nn.Module = get("network").eval()
            self.network.load_state_dict(read_weights(self.weights))
            self.preprocessing, self.inferer = get("preprocessing"), get("inferer")
            self.postprocessing = get("postprocessing")
        for step in self.postprocessing.transforms:
            if output_ext and _writes(step):
                step.saver.output_ext = output_ext
        if output_dir is None:
            self.postprocessing = Compose([step for step in self.postprocessing.transforms if not _writes(step)])

    def __call__(self, pair: Mapping[str, Any]) -> dict[str, Any]:
        """Fuse one pair.

        Args:
            pair: an entry of a data list: `image`, `image2` (paths or arrays) and, where files are written, `case`.
                A bundle for single images fuses DICOM series slice by slice.

        Returns:
            The entry after postprocessing: `image` (2, *spatial) in [0, 1] and `pred`, (1, *spatial) in the units of
            the first image or (3, *spatial) in color.

        Raises:
            FusionInputError: the pair cannot be fused.
        """
        with user_errors_alone():
            if self.bundle != VOLUMES and is_volume_case(pair):
                return self.postprocessing(fuse_volume(self, pair))
            if self.bundle != VOLUMES and self.register != "none":
                found = "a single image"
                raise input_error(printable(pair["image"]), "a volume to register", found, "leave out --register")
            sample = self.preprocessing(dict(pair))
            with torch.no_grad():
                sample["pred"] = self.inferer(sample["image"][None].to(self.device), self.network)[0]
            return self.postprocessing(sample)

    def weights_digest(self) -> str:
        """Return the SHA-256 of the weights' file, which tells which training a result is from."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()


def fuse(
    image_a: NDArray | torch.Tensor | str | os.PathLike,
    image_b: NDArray | torch.Tensor | str | os.PathLike,
    task: str | None = None,
    device: str | torch.device | None = None,
    bundle: str | None = None,
    *,
    window_a: str | None = None,
    window_b: str | None = None,
    allow_partial: bool = False,
) -> NDArray:
    """Fuse two images or two volumes of one head on one grid with a trained network.

    Args:
        image_a: the anatomical image (MRI): array or tensor (H, W) or (X, Y, Z), or the path of a PNG, NIfTI or NRRD.
        image_b: the other image: the same shape, (H, W, 3) in color, or a path.
        task: what the images are and which weights are used: "ct_mri", "spect_mri", "pet_mri", "ct_mri_published", for
            volumes "t2_flair"; None for the bundle's first one.
        device: where the network runs, such as "cpu"; None for a GPU where there is one.
        bundle: "fusion_2d" or "fusion_3d"; None to choose by the first image: volumes are fused in 3D.
        window_a: range of `image_a` that is shown, such as "40/80", "p1/p99" or "minmax" (see `WindowIntensityPair`);
            None for the default of its kind.
        window_b: that of `image_b`, such as "brain", "head" or "bone" for a CT in HU.
        allow_partial: fuse also where `image_b` covers less than a quarter of `image_a`.

    Returns:
        float32, (H, W), (X, Y, Z) or, where `image_b` is in color, (H, W, 3), in the units of `image_a`, inside the
        range of it that is shown; where `image_b` does not reach, `image_a` itself.

    Raises:
        FusionInputError: images that cannot be fused, an unknown task, missing weights.

    Example:
        >>> fuse("mri.png", "ct.png").shape  # doctest: +SKIP
        (256, 256)
    """
    from clinicalfmamba_nets.engine.fusion.inputs import choose_bundle
    from clinicalfmamba_nets.engine.run.info import bundle_tasks

    chosen = bundle or choose_bundle(image_a, task)
    task = task or bundle_tasks(chosen)[0]
    settings = {"window_a": window_a, "window_b": window_b, "allow_partial": allow_partial or None}
    asked = tuple((name, value) for name, value in settings.items() if value is not None)
    pipeline = _kept_pipeline(chosen, task, None if device is None else str(device), str(find_bundle(chosen)), asked)
    sample = pipeline({"image": image_a, "image2": image_b})
    tell_warnings(sample["image"].meta)
    return channels_last(sample["pred"])


def tell_warnings(meta: Mapping[str, Any]) -> None:
    """Tell the caller what there is to know about a pair: each warning and note as a `FusionWarning`."""
    for text in filter(None, [*meta.get("warnings", "").split("; "), *meta.get("notes", "").split("; ")]):
        warnings.warn(text, FusionWarning, stacklevel=3)


def channels_last(fused: torch.Tensor) -> NDArray:
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


@lru_cache(maxsize=4)
def _kept_pipeline(
    bundle: str, task: str, device: str | None, bundle_folder: str, settings: tuple[tuple[str, Any], ...] = ()
) -> FusionPipeline:
    return FusionPipeline(task, device, bundle=bundle, settings=dict(settings))


def _writes(step: Any) -> bool:
    return type(step).__name__.startswith("Save")
