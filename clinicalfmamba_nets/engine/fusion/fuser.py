"""Fusion in Python: `Fuser`, an opened network for arrays, tensors and paths, and `fuse`, which keeps one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.fusion.case import Case
from clinicalfmamba_nets.engine.fusion.options import FuseOptions
from clinicalfmamba_nets.engine.fusion.pairs import Reading, read_pair
from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline
from clinicalfmamba_nets.engine.run.tasks import VOLUMES, bundle_of, bundle_tasks, find_task, never_seen
from clinicalfmamba_nets.engine.run.workflows import find_bundle
from clinicalfmamba_nets.errors import FusionWarning, input_error
from clinicalfmamba_nets.transforms.notes import split_notes

Image = NDArray | torch.Tensor | str | os.PathLike
_MOST_KEPT = 4
# Options of what is written beside a result, of which Python gets the image alone.
_OF_FILES = ("output_ext", "weights_map", "overwrite", "slices", "scores", "presentation")


class Fuser:
    """A network opened for one task, to fuse any number of pairs.

    The process is left as it is: no random state, no setting of cuDNN or of the allocator, no variable is changed.
    Notes and warnings about a pair come as `FusionWarning`.

    Args:
        task: what the images are and which weights are used, see `clinicalfmamba info --tasks`; None to choose it by
            the images: by their names, Modality and color for paths, the bundle's first one for arrays.
        device: where the network runs, such as "cpu"; None for a GPU where there is one.
        bundle: "fusion_2d" or "fusion_3d"; None for the one in which the task fuses such images.
        options: further fields of `FuseOptions`, such as `window_b` or `register`; those of files, which have no
            effect here, are told in a `FusionWarning`.

    Raises:
        FusionInputError: an unknown task or bundle.
        TypeError: an unknown option.

    Example:
        >>> fuser = Fuser(task="ct_mri", device="cpu")
        >>> fuser(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self,
        task: str | None = None,
        *,
        device: str | torch.device | None = None,
        bundle: str | None = None,
        **options: Any,
    ) -> None:
        _check_names("Fuser", options)
        if task is not None:
            find_task(task, bundle)
        elif bundle is not None:
            find_bundle(bundle)
        named = None if device is None else str(device)
        self.options = FuseOptions(task=task, device=named, bundle=bundle, **options)
        _tell_unused(self.options)
        self._pipelines: dict[tuple[str, str], FusionPipeline] = {}

    def __call__(self, image_a: Image, image_b: Image, *, spatial_dims: int | None = None) -> Any:
        """Fuse two images, two volumes, or two batches of them, of one head on one grid each.

        Args:
            image_a: the anatomical image (MRI): (H, W), (1, H, W) or (H, W, 1); (B, 1, H, W) for a batch; with
                `spatial_dims` 2 also (B, H, W), with 3 (X, Y, Z) or (B, 1, X, Y, Z); or the path of a PNG, NIfTI, NRRD
                or DICOM series.
            image_b: the other image: the same shape, or with 3 channels where it is in color, or a path.
            spatial_dims: 2 for images, 3 for volumes; needed where a shape can be read in both ways.

        Returns:
            float32 in the range of `image_a`: a tensor on its device where it is one, else an array. Shape of
            `image_a`, of what its file holds for a path, in color with the channels of `image_b`.

        Raises:
            FusionInputError: images that cannot be fused or can be read in two ways; missing weights.
        """
        if spatial_dims not in (None, 2, 3):
            raise input_error("spatial_dims", "2, 3 or None", repr(spatial_dims), "name one of these")
        if self.options.bundle == VOLUMES:
            spatial_dims = spatial_dims or 3
        reading = read_pair(image_a, image_b, spatial_dims)
        results = [self._fuse(pair, reading) for pair in reading.pairs]
        return reading.joined(results)

    def _fuse(self, pair: Mapping[str, Any], reading: Reading) -> torch.Tensor:
        """Fuse one pair; (1, *spatial), or (3, *spatial) in color."""
        task, bundle, pair, told = self._chosen(pair, reading)
        sample = self._pipeline(task, bundle)(pair)
        meta = sample["image"].meta
        told += [*split_notes(meta.get("warnings")), *split_notes(meta.get("notes"))]
        for text in dict.fromkeys(told):
            warnings.warn(text, FusionWarning, stacklevel=4)
        return torch.as_tensor(sample["pred"]).detach()

    def _chosen(self, pair: Mapping[str, Any], reading: Reading) -> tuple[str, str, Mapping[str, Any], list[str]]:
        """Return task and bundle of a pair, the pair in their order, and what there is to tell about it."""
        task, bundle, told = self.options.task, self.options.bundle, []
        volume = reading.volume
        case = Case.of({"case": "pair", **pair}) if reading.paths else None
        if case is not None:
            for source in case.sources:
                source.check()
            volume = case.first.is_volume
            if task is None and bundle is None:
                task, note = case.task()
                told.append(note.replace("--task", "task"))
        if task is None:
            task = bundle_tasks(bundle or (VOLUMES if volume else "fusion_2d"))[0]
        told += [find_task(task).warning] if find_task(task).warning else []
        if case is not None:
            case, warning = case.in_order(task)
            told += [text for text in (warning, never_seen(task, case.words)) if text]
            pair = {key: value for key, value in case.entry().items() if key != "case"}
        return task, bundle or bundle_of(task, volume), pair, told

    def _pipeline(self, task: str, bundle: str) -> FusionPipeline:
        if (task, bundle) not in self._pipelines:
            self._pipelines[task, bundle] = FusionPipeline.of(self.options, task, bundle, None)
        return self._pipelines[task, bundle]

    def stamps(self) -> list[tuple[str, int, int, int]]:
        """Return what tells whether the files of the opened weights are still those that were read."""
        return [_stamp(pipeline.weights) for pipeline in self._pipelines.values()]


_kept: dict[tuple[Any, ...], tuple[Fuser, list[Any]]] = {}


def fuse(
    image_a: Image,
    image_b: Image,
    task: str | None = None,
    device: str | torch.device | None = None,
    bundle: str | None = None,
    *,
    spatial_dims: int | None = None,
    **options: Any,
) -> Any:
    """Fuse two images or two volumes of one head on one grid with a trained network.

    The network is kept for the next call, until its file of weights is replaced.

    Args:
        image_a: as in `Fuser.__call__`.
        image_b: as in `Fuser.__call__`.
        task: as in `Fuser`: "ct_mri", "spect_mri", "pet_mri", "t2_flair", ...
        device: as in `Fuser`.
        bundle: as in `Fuser`.
        spatial_dims: as in `Fuser.__call__`.
        options: as in `Fuser`.

    Returns:
        As `Fuser.__call__`.

    Raises:
        FusionInputError: images that cannot be fused, an unknown task, missing weights.
        TypeError: an unknown option.

    Example:
        >>> fuse("mri.png", "ct.png").shape  # doctest: +SKIP
        (256, 256)
    """
    _check_names("fuse", options, "spatial_dims")
    named = None if device is None else str(device)
    key = (repr(task), named, repr(bundle), os.environ.get("CLINICALFMAMBA_BUNDLES"), repr(sorted(options.items())))
    fuser, stamps = _kept.pop(key, (None, []))
    if fuser is None or fuser.stamps() != stamps:
        fuser = Fuser(task, device=device, bundle=bundle, **options)
    try:
        return fuser(image_a, image_b, spatial_dims=spatial_dims)
    finally:
        _kept[key] = (fuser, fuser.stamps())
        while len(_kept) > _MOST_KEPT:
            _kept.pop(next(iter(_kept)))


def _check_names(function: str, options: Mapping[str, Any], *others: str) -> None:
    """Refuse options that are none, by the name of the function that was called, with the nearest that is one."""
    known = [*others, *(field.name for field in fields(FuseOptions))]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            remedy = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{remedy}")


def _tell_unused(options: FuseOptions) -> None:
    """Warn of options that change files alone: Python gets the fused image."""
    plain = FuseOptions()
    unused = [name for name in _OF_FILES if getattr(options, name) != getattr(plain, name)]
    for name in unused:
        warnings.warn(f"{name}: has no effect in Python, which gets the image alone", FusionWarning, stacklevel=3)
    if options.palette not in (None, "grey") and options.color != "instead":
        text = "the image in color lies beside the grey one in files alone; color='instead' returns it"
        warnings.warn(f"palette {options.palette}: {text}", FusionWarning, stacklevel=3)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns
