"""A small renderer of blending presentation states for the tests: by the standard alone, without the package.

Source: DICOM PS3.4, N.2.6: rescale, window and palette of each input; opacity times the first input, the rest of the
second. The second input is brought to the grid of the one that gives the geometry by nearest neighbour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom


def render(state_file: Path, folder: Path) -> np.ndarray:
    """Return what a viewer shows, (slices, rows, columns, 3) in [0, 1], by a state and the files of a folder."""
    state = pydicom.dcmread(state_file)
    files = {}
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        files[dataset.SOPInstanceUID] = dataset
    inputs = {item.BlendingInputNumber: item for item in state.AdvancedBlendingSequence}
    geometry = next(item for item in inputs.values() if item.GeometryForDisplay == "TRUE")
    grid = volume(geometry, files)[1:]
    (display,) = state.BlendingDisplaySequence
    assert display.BlendingMode == "FOREGROUND"
    over, under = (inputs[item.BlendingInputNumber] for item in display.BlendingDisplayInputSequence)
    shown = [on_grid(item, files, grid) for item in (over, under)]
    return display.RelativeOpacity * shown[0] + (1 - display.RelativeOpacity) * shown[1]


def volume(item, files):
    """Return colors (slices, rows, columns, 3), the affine from (slice, row, column) to LPS mm, and the shape."""
    images = [files[reference.ReferencedSOPInstanceUID] for reference in item.ReferencedImageSequence]
    turn = np.array(images[0].ImageOrientationPatient, dtype=float)
    normal = np.cross(turn[:3], turn[3:])
    images.sort(key=lambda image: normal @ np.array(image.ImagePositionPatient, dtype=float))
    places = [np.array(image.ImagePositionPatient, dtype=float) for image in images]
    down, across = (float(value) for value in images[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (places[-1] - places[0]) / max(len(places) - 1, 1)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = turn[3:] * down, turn[:3] * across, places[0]
    colors = np.stack([color(item, image) for image in images])
    return colors, affine, colors.shape[:3]


def color(item, image):
    """Bring one image through rescale, window and palette of an input."""
    values = image.pixel_array * float(item.get("RescaleSlope", 1)) + float(item.get("RescaleIntercept", 0))
    for window in item.SoftcopyVOILUTSequence:
        named = [reference.ReferencedSOPInstanceUID for reference in window.get("ReferencedImageSequence", [])]
        if not named or image.SOPInstanceUID in named:
            break
    else:
        raise AssertionError("no window for this image")
    assert window.VOILUTFunction == "LINEAR_EXACT"
    unit = np.clip((values - float(window.WindowCenter)) / float(window.WindowWidth) + 0.5, 0, 1)
    if image.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    (palette,) = item.PaletteColorLookupTableSequence
    planes = []
    for name in ("Red", "Green", "Blue"):
        count, first, bits = palette[f"{name}PaletteColorLookupTableDescriptor"].value
        assert (first, bits) == (0, 16)
        table = np.frombuffer(palette[f"{name}PaletteColorLookupTableData"].value, "<u2")
        planes.append(table[np.rint(unit * (count - 1)).astype(int)] / 65535)
    return np.stack(planes, axis=-1)


def on_grid(item, files, grid):
    """Return the colors of an input on a grid: through its registration, by nearest neighbour, black outside."""
    colors, affine, _ = volume(item, files)
    target, shape = grid
    moved = matrix_of(item, files) @ affine
    index = np.indices(shape).reshape(3, -1)
    places = np.linalg.solve(moved, target @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    places = np.rint(places).astype(int)
    inside = np.all((places >= 0) & (places < np.array(colors.shape[:3])[:, None]), axis=0)
    found = np.zeros((index.shape[1], 3))
    found[inside] = colors[tuple(places[:, inside])]
    return found.reshape(*shape, 3)


def matrix_of(item, files):
    """Return the matrix that brings an input to the geometry: of the registration that the state refers to."""
    if "ReferencedSpatialRegistrationSequence" not in item:
        return np.eye(4)
    series = item.ReferencedSpatialRegistrationSequence[0].ReferencedSeriesSequence[0]
    registration = files[series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
    wanted = {reference.ReferencedSOPInstanceUID for reference in item.ReferencedImageSequence}
    for part in registration.RegistrationSequence:
        if wanted == {reference.ReferencedSOPInstanceUID for reference in part.ReferencedImageSequence}:
            (step,) = part.MatrixRegistrationSequence
            (transform,) = step.MatrixSequence
            assert transform.FrameOfReferenceTransformationMatrixType == "RIGID"
            return np.array(transform.FrameOfReferenceTransformationMatrix, dtype=float).reshape(4, 4)
    raise AssertionError("the registration does not name the images of the input")
