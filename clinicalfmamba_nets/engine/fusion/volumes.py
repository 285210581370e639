"""DICOM series as cases of a run, and volumes fused slice by slice with the 2D network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.run.progress_bar import fusing_bar
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.io import case_name, is_dicom, printable
from clinicalfmamba_nets.io.dicom.files import split_selector
from clinicalfmamba_nets.io.dicom.study import choose_pair, open_study
from clinicalfmamba_nets.transforms import LoadImagePaird, WindowIntensityPaird

if TYPE_CHECKING:
    from clinicalfmamba_nets.engine.fusion.pipeline import FusionPipeline

# What --format names, as the ending of the result; "" for that of the first image.
FORMATS = {"dicom": ".dcm", "nifti": ".nii.gz", "png": ".png"}
_TASKS = {"CT": "ct_mri", "PT": "pet_mri", "NM": "spect_mri", "MR": "t2_flair"}


def study_case(path: str | os.PathLike, selectors: Sequence[str] = ()) -> dict[str, str]:
    """Turn a DICOM study into a case: two of its series, chosen by selectors or by rule (see `choose_pair`)."""
    folder = os.path.abspath(path)
    image, image2 = choose_pair(folder, selectors)
    return {"case": case_name(folder), "image": image, "image2": image2}


def series_task(path: str | os.PathLike) -> tuple[str, str]:
    """Choose a task by the modality of a second image that is a DICOM series.

    Returns:
        The task, and a sentence that tells the user about the choice.
    """
    target, selector = split_selector(path)
    modality = open_study(target).choose(selector).modality
    task = _TASKS.get(modality, "ct_mri")
    return task, f"the second series is {modality or 'of no stated modality'}: taken as {task}; --task names another"


def is_volume_case(case: Mapping[str, Any]) -> bool:
    """Tell whether a case is fused slice by slice: one whose first image is a DICOM series."""
    image = case["image"]
    return isinstance(image, str | os.PathLike) and is_dicom(image)


def fuse_volume(pipeline: FusionPipeline, pair: Mapping[str, Any]) -> dict[str, Any]:
    """Fuse two volumes slice by slice, in the plane in which the first one was taken.

    Both are brought to [0, 1] by the bundle's `WindowIntensityPaird`, with limits from the whole volume, so that slices
    stay comparable. One slice at a time goes through the network; memory grows with the volumes alone.

    Args:
        pipeline: the opened bundle.
        pair: `image`, `image2` (paths) and `case`.

    Returns:
        `image` (2, X, Y, Z) in [0, 1], `pred` (1, X, Y, Z) in [0, 1], before the bundle's postprocessing, and
        `slice_wise`, True.

    Raises:
        FusionInputError: the series are no volumes or do not lie in one space.
    """
    steps = pipeline.preprocessing.transforms
    window = next((step for step in steps if isinstance(step, WindowIntensityPaird)), WindowIntensityPaird())
    sample: Any = window(LoadImagePaird("image", register=pipeline.register)(dict(pair.items())))
    image = sample["image"]
    if image.ndim != 4:
        found = " x ".join(map(str, image.shape[1:]))
        raise input_error(printable(pair["image"]), "a DICOM series of slices", found, "name its folder")
    planes = image.as_tensor()
    fused = torch.empty((1, *planes.shape[1:]))
    with torch.inference_mode(), fusing_bar(planes.shape[-1], "slice", slow=50) as bar:
        for place in range(planes.shape[-1]):
            upright = planes[..., place].transpose(1, 2)[None].contiguous()  # (1, 2, rows, columns)
            result = pipeline.inferer(upright.to(pipeline.device), pipeline.network)
            fused[..., place] = result[0].transpose(1, 2).cpu()
            bar.update()
    sample["pred"] = MetaTensor(fused, affine=image.affine)
    sample["slice_wise"] = True
    return sample


def middle_panels(sample: Mapping[str, Any]) -> list[NDArray]:
    """Return the middle slices of both images and of the fused one as upright pictures, rows x columns (x 3)."""
    panels = []
    for volume in (sample["image"][:1], sample["image"][1:], sample["pred"]):
        plane = np.asarray(volume)[..., volume.shape[-1] // 2]  # (1 or 3, columns, rows)
        panels.append(plane[0].T if plane.shape[0] == 1 else plane.transpose(2, 1, 0))
    return panels


def list_text(path: str | os.PathLike) -> str:
    """Return the table of the series in a folder, one line each; see `open_study`."""
    return open_study(path).text()
