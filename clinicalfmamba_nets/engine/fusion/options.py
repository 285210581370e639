"""What a user asks of a fusion: one frozen set of options for the command line, Python, Label and Deploy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# What --format names, as the ending of the result; "" for that of the first image.
FORMATS = {"dicom": ".dcm", "nifti": ".nii.gz", "png": ".png"}
# Options that are settings of a bundle's `inference.json` of the same name; what they mean is told there.
BUNDLE_SETTINGS = ("window_a", "window_b", "palette", "color", "allow_partial", "weights_map")
# Options that change no voxel of the fused image, and those that a record tells apart from the settings.
_BESIDE = ("task", "bundle", "device", "overwrite", "debug", "slices", "scores")


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """Options of a fusion.

    A new option is a field here, an argument in `cli.arguments`, and, where it changes the image, a name in
    `BUNDLE_SETTINGS` with a top-level id in the bundles' `inference.json`.

    Args:
        task: what the images are and which weights are used; None to choose it case by case.
        bundle: the bundle of all cases; None to choose it by the task and the first image.
        device: where the networks run; None for the bundle's own choice.
        output_ext: ending of the results instead of the first image's; ".dcm" for a folder with a DICOM series.
        register: "rigid" to align the second volume with the first, "none" to trust the headers.
        window_a: window of the first image; None for the default of its modality.
        window_b: window of the second image; None for the default of its modality.
        palette: colors of a grey PET or SPECT; None for the default of its modality.
        color: with a palette, "beside" to write a result in color beside the grey one, "instead" to replace that.
        allow_partial: fuse also where the second image covers little of the first.
        weights_map: write the share of the first image at each pixel beside the result.
        overwrite: fuse again what is there.
        debug: print the traceback of each failure.
        slices: what the preview of a volume shows; None for the choice of the program.
        scores: measure the result and tell the numbers.
        presentation: "auto" to write a DICOM presentation state beside a fused series of CT, PET or SPECT over MR,
            "always" for any two DICOM series, "never" for none.

    Example:
        >>> FuseOptions(task="ct_mri").bundle_settings()
        {}
    """

    task: str | None = None
    bundle: str | None = None
    device: str | None = None
    output_ext: str = ""
    register: str = "none"
    window_a: str | None = None
    window_b: str | None = None
    palette: str | None = None
    color: str | None = None
    allow_partial: bool = False
    weights_map: bool = False
    overwrite: bool = False
    debug: bool = False
    slices: str | None = None
    scores: bool = False
    presentation: str = "auto"

    def bundle_settings(self) -> dict[str, Any]:
        """Return the settings of the bundle that were asked for, by name."""
        asked = {name: getattr(self, name) for name in BUNDLE_SETTINGS}
        return {name: value for name, value in asked.items() if value is not None and value is not False}

    def as_dict(self) -> dict[str, Any]:
        """Return all options by name, as a report stores them."""
        return asdict(self)

    def image_settings(self) -> dict[str, Any]:
        """Return the settings that change the fused image, beside its task and bundle."""
        return {name: value for name, value in asdict(self).items() if name not in _BESIDE}
