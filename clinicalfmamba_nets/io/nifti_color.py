"""Volumes in color as NIfTI: RGB24, which FSLeyes, MRIcroGL and ITK-SNAP show."""

from __future__ import annotations

import numpy as np

from clinicalfmamba_nets.io.files import PathLike, atomic_file


def write_rgb_nifti(
    path: PathLike, array: np.ndarray, affine: np.ndarray | None = None, coordinates: str = "patient"
) -> None:
    """Write red, green and blue voxels as NIfTI of the type RGB24 (128), whole or not at all.

    Args:
        path: file to be written, compressed when its name ends in `.gz`.
        array: shape (X, Y, Z, 3) or (X, Y, 3), in [0, 255].
        affine: 4 x 4, index to RAS mm.
        coordinates: what the affine leads to; without a place in the patient, sform and qform stay without a code.

    Raises:
        ValueError: another shape.

    Example:
        >>> write_rgb_nifti("fused.nii.gz", np.zeros((8, 8, 4, 3)), np.eye(4))  # doctest: +SKIP
    """
    import nibabel

    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(f"RGB24: expected (X, Y, Z, 3) or (X, Y, 3), found {array.shape}")
    levels = np.ascontiguousarray(np.rint(array).clip(0, 255).astype(np.uint8))
    voxels = levels.view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    place = np.eye(4) if affine is None else np.asarray(affine, float)
    lost = coordinates in ("none", "other")
    image = nibabel.Nifti1Image(voxels, None if lost else place)  # of an affine nibabel's saving makes a code
    image.header.set_xyzt_units("mm")
    image.header.set_zooms(np.linalg.norm(place[:3, : voxels.ndim], axis=0))
    for code in (image.header.set_sform, image.header.set_qform):
        code(*((None, 0) if lost else (place, 1)))
    end = ".nii.gz" if str(path).lower().endswith(".gz") else ".nii"
    with atomic_file(path) as partial:
        target = partial.with_name(partial.name + end)
        try:
            nibabel.save(image, target)
            target.replace(partial)
        finally:
            target.unlink(missing_ok=True)
