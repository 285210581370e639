"""Fused images written by case: one whole file for each, named so that no case replaces another."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Hashable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged, Transform
from monai.utils import TransformBackends

from clinicalfmamba_nets.errors import FusionWarning, input_error
from clinicalfmamba_nets.io import case_name, image_format, is_dicom, printable, result_extension, write_image
from clinicalfmamba_nets.io.dicom.files import split_selector
from clinicalfmamba_nets.io.files import other_nifti, safe_name
from clinicalfmamba_nets.io.transform_file import write_transform
from clinicalfmamba_nets.transforms.restore import WINDOW_KEY, black_and_white

_logger = logging.getLogger(__name__)
# Who writes a result in color, by its ending: module and function.
_RGB_NIFTI = ("clinicalfmamba_nets.io.nifti_color", "write_rgb_nifti")
_WRITTEN_AS_NIFTI = ("metaimage", "mgh")  # whose type the NIfTI file keeps
_COLOR_WRITERS = {".nii": _RGB_NIFTI, ".nii.gz": _RGB_NIFTI, ".nrrd": ("clinicalfmamba_nets.io.nrrd", "write_rgb_nrrd")}


class SaveFused(Transform):
    """Write fused images to a folder as `<case>_<postfix>.<extension of the first input>`; DICOM series as a folder.

    A file is written whole or not at all. Two different inputs of one run never share a name: where the case is the
    same, the name of the input's folder goes before it, then a number behind it.

    Args:
        output_dir: folder, made where needed.
        output_postfix: what follows the case.
        output_ext: ".png", ".nii", ".nii.gz" or ".dcm" instead of the first input's; ".dcm" stands for a folder with
            a DICOM series, which only DICOM inputs can give.
        dtype: type of the stored values instead of the first input's, for example "float32" (not for PNG).
        overwrite: replace files of an earlier run; if not, they are kept as they are.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        output_dir: str | os.PathLike[str] = ".",
        output_postfix: str = "fused",
        output_ext: str = "",
        dtype: str | None = None,
        overwrite: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.output_postfix = output_postfix
        self.output_ext = f".{output_ext.lstrip('.')}" if output_ext else ""
        self.dtype = dtype
        self.overwrite = overwrite
        self._taken: dict[str, tuple[str, str]] = {}

    def target(self, case: str, sources: tuple[str, str] = ("", ""), extension: str = ".nii.gz") -> Path:
        """Choose and reserve the file of a case.

        Args:
            case: name of the case, any text.
            sources: paths of its two inputs; the same inputs get the same file again.
            extension: how the name ends.

        Returns:
            The path in `output_dir`.
        """
        plain = case.replace("\\", "/").rstrip("/").split("/")[-1]
        base, parent = safe_name(plain), case_name(os.path.basename(os.path.dirname(sources[0])))
        names = [base, f"{parent}_{base}", *(f"{base}_{number}" for number in range(2, len(self._taken) + 3))]
        for name in names:
            key = f"{name}{extension}".casefold()
            if key not in self._taken or (any(sources) and self._taken[key] == sources):
                self._taken[key] = sources
                return self.output_dir / f"{name}_{self.output_postfix}{extension.replace('.dcm', '')}"
        raise AssertionError("more names than cases were tried")

    def __call__(self, img: Any, meta: Mapping[str, Any] | None = None, case: Any = None) -> Path:
        """Write one fused image.

        Args:
            img: shape (1, *spatial), or (3, *spatial) for color, in the units of the first image.
            meta: meta of the pair that it comes from: `filename_or_obj`, `affine`, `dtype`.
            case: name or number of the case; None for the first input's file name.

        Returns:
            The file's path.

        Raises:
            FusionInputError: values that are not finite, or an image that the format cannot hold.
        """
        meta = dict(meta or {})
        colored = isinstance(img, MetaTensor) and bool(img.meta.get("palette")) and img.shape[0] == 3
        if colored:
            meta |= {"color": 1, "value_range": 255.0, "palette": img.meta["palette"]}
        source = os.fsdecode(meta.get("filename_or_obj") or "")
        array = img.detach().cpu().numpy() if isinstance(img, torch.Tensor) else np.asarray(img)
        extension = self._extension(source, array, meta)
        path = self.target(case_of(case, source), (source, str(meta.get("image2_filename_or_obj", ""))), extension)
        for name in filter(None, (source, str(meta.get("image2_filename_or_obj") or ""))):
            given = split_selector(name)[0]
            if given.exists() and path.exists() and (path.samefile(given) or path.resolve() in given.resolve().parents):
                raise input_error(printable(path), "a place beside the inputs", "one of the inputs", "set output_dir")
        if path.exists() and not self.overwrite:
            _logger.info("%s kept: it exists", printable(path))
            return path
        twin = path.with_name(other_nifti(path.name) or path.name)
        if twin != path and twin.exists():
            told = f"lies beside the new {printable(path.name)}"
            told += ": programs built on ITK show the voxels of the .nii for both; remove one"
            warnings.warn(f"{printable(twin)} {told}", FusionWarning, stacklevel=2)
        if not np.isfinite(array).all():
            raise input_error(printable(source or path), "a finite fused image", "NaN or infinite values", "report it")
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
        affine = img.affine if isinstance(img, MetaTensor) else meta.get("affine")
        place = None if affine is None else torch.as_tensor(affine).detach().cpu().double().numpy()
        if meta.get("registration"):
            name = path.name.rpartition(f"_{self.output_postfix}")[0]
            write_transform(path.with_name(f"{name}_registration.tfm"), str(meta["registration"]))
        if extension == ".dcm":
            self._write_series(path, array, place, source, meta)
            return path
        known = str(meta.get("coordinates") or "patient")
        if img.shape[0] == 3:
            _color_writer(extension)(path, _levels(array, meta), place, known)
            return path
        kept = not colored and os.path.isfile(source) and result_extension(source) == extension
        like = source if kept and image_format(source) == image_format(path) else None
        stored = image_format(source) if os.path.isfile(source) else ""
        write_image(path, array, like, place, self._dtype(extension, like, stored, meta), known)
        return path

    def _write_series(self, path: Path, array: np.ndarray, place: Any, source: str, meta: Mapping[str, Any]) -> None:
        """Write a volume, (X, Y, Z) or (X, Y, Z, 3), or one slice, as a DICOM series derived from both inputs."""
        from clinicalfmamba_nets.io.dicom.read import write_dicom

        color = meta.get("color") and array.shape[-1] == 3
        if array.ndim == (3 if color else 2):
            array = array[:, :, None]
        if color:
            array = _levels(array, meta)
        second = os.fsdecode(meta.get("image2_filename_or_obj") or "")
        references = [second] if second and is_dicom(second) else []
        settings = "; ".join(str(meta.get(WINDOW_KEY) or "").splitlines())
        palette = str(meta.get("palette") or "") if color else ""
        settings += f"; colors of palette {palette}" if palette else ""
        write_dicom(
            path, array, source or None, place, references=references, multiframe=bool(palette), settings=settings
        )

    def _extension(self, source: str, array: np.ndarray, meta: Mapping[str, Any]) -> str:
        if array.ndim not in (3, 4) or array.shape[0] not in (1, 3):
            name = printable(source or "fused image")
            found = f"shape {tuple(array.shape)}"
            raise input_error(name, "(1, *spatial), or (3, *spatial) for color", found, "give one fused image")
        flat = array.ndim == 3
        series = ".dcm" if source and is_dicom(source) else ""
        chosen = self.output_ext or series or result_extension(source)
        chosen = chosen or (".png" if flat and float(meta.get("value_range", 0)) else ".nii.gz")
        if chosen == ".dcm" and array.shape[0] in (1, 3):
            return chosen
        name, color = printable(source or "fused image"), array.shape[0] == 3
        if chosen == ".png" and not flat:
            if color and meta.get("palette"):
                return ".nii.gz"
            raise input_error(name, "an image for .png", "a volume", "write NIfTI (--format nifti, output_ext)")
        if color and chosen not in (".png", *_COLOR_WRITERS):
            raise input_error(name, f"an image for {chosen}", "a color image", "set output_ext (--format)")
        return chosen

    def _dtype(self, extension: str, like: str | None, stored: str, meta: Mapping[str, Any]) -> Any:
        if extension == ".png":
            return None if like else ("uint16" if float(meta.get("value_range", 0)) > 255 else "uint8")
        kept = stored in _WRITTEN_AS_NIFTI and like is None and extension in (".nii", ".nii.gz")
        return self.dtype or (str(meta.get("dtype") or "") or None if kept else None)


def _color_writer(extension: str) -> Any:
    if extension == ".png":
        return lambda path, array, *_: write_image(path, array, dtype="uint8")
    module, name = _COLOR_WRITERS[extension]
    return getattr(import_module(module), name)


def _levels(array: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """Bring colors from the range of the first image to [0, 255]."""
    black, white = black_and_white(meta)
    return array if (black, white) == (0.0, 255.0) else (array - black) * (255 / (white - black))


def case_of(case: Any, source: str) -> str:
    """Return the name of a case: as given, else that of the first input's file.

    Args:
        case: name or number, a tensor as well; None or "" where there is none.
        source: path of the first input, "" for an array.

    Example:
        >>> case_of(None, "a/head.nii.gz"), case_of(7, ""), case_of("", "")
        ('head', '7', 'case')
    """
    case = case.item() if isinstance(case, torch.Tensor) else case
    return str(case or (case_name(split_selector(source)[0]) if source else "case"))


class SaveImageFusedd(SaveImaged):
    """Dictionary form of `SaveFused`; also known as `SaveFusedd`.

    Its class name and base class are what MONAI Deploy and MONAI Label look for when they leave saving out of a
    bundle's chain, because they write results themselves. The file's path goes to `meta["saved_to"]`.

    Args:
        keys: entries with fused images.
        image_key: the pair, whose meta names the first input.
        output_dir: as in `SaveFused`.
        output_postfix: as in `SaveFused`.
        output_ext: as in `SaveFused`.
        dtype: as in `SaveFused`.
        overwrite: as in `SaveFused`.
        case_key: entry with the case's name; it may be missing.
        allow_missing_keys: do not raise when a key of `keys` is missing.
    """

    backend = SaveFused.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        output_dir: str | os.PathLike[str] = ".",
        *,
        output_postfix: str = "fused",
        output_ext: str = "",
        dtype: str | None = None,
        overwrite: bool = True,
        case_key: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)  # MONAI's own saver, which is not used, loads all writers
        self.image_key = image_key
        self.case_key = case_key
        self.saver: Any = SaveFused(output_dir, output_postfix, output_ext, dtype, overwrite)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the fused images; see `SaveFused.__call__`."""
        d = dict(data)
        meta = getattr(d.get(self.image_key), "meta", {})
        for key in self.key_iterator(d):
            path = self.saver(d[key], meta, d.get(self.case_key))
            if isinstance(d[key], MetaTensor):
                d[key].meta["saved_to"] = os.fspath(path)
        return d


SaveFusedd = SaveImageFusedd
