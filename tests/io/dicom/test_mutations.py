"""Mutated headers of every form of pixels: a volume or one line, in bounded time and memory."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image

SCREEN = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
PIXELS = np.arange(72, dtype=np.uint8)


def palette(made):
    made.PhotometricInterpretation, made.PixelData = "PALETTE COLOR", PIXELS[:24].tobytes()
    for color in ("Red", "Green", "Blue"):
        setattr(made, f"{color}PaletteColorLookupTableDescriptor", [64, 0, 16])
        setattr(made, f"{color}PaletteColorLookupTableData", np.arange(64, dtype="<u2").tobytes())


def segments(made):
    made.PhotometricInterpretation, made.PixelData = "PALETTE COLOR", PIXELS[:24].tobytes()
    for color in ("Red", "Green", "Blue"):
        setattr(made, f"{color}PaletteColorLookupTableDescriptor", [64, 0, 16])
        ramp = np.array([0, 1, 0, 1, 63, 65535], "<u2").tobytes()
        setattr(made, f"Segmented{color}PaletteColorLookupTableData", ramp)


def shared_differences(made):
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "YBR_FULL_422", 0
    made.PixelData = PIXELS[:48].tobytes()


def run_lengths(made):
    from pydicom.uid import RLELossless

    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.PixelData = PIXELS.tobytes()
    made.compress(RLELossless, generate_instance_uid=False)


def uptake(made):
    from pydicom.dataset import Dataset

    made.SOPClassUID, made.Modality, made.Units = "1.2.840.10008.5.1.4.1.1.128", "PT", "BQML"
    made.CorrectedImage, made.DecayCorrection, made.PatientWeight = ["ATTN", "DECY"], "START", 70
    made.SeriesDate = made.AcquisitionDate = "20240101"
    made.SeriesTime = made.AcquisitionTime = "110000"
    dose = Dataset()
    dose.RadiopharmaceuticalStartTime, dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "100000", 35e7, 6586
    made.RadiopharmaceuticalInformationSequence = [dose]
    made.WindowCenter, made.WindowWidth = [1, 2], [3, 4]
    made.add_new(0x00280120, "US", 3)


FORMS = {form.__name__: form for form in (palette, segments, shared_differences, run_lengths, uptake)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_mutated_headers_end_in_a_volume_or_one_line(make_series, tmp_path, name, peak_memory):
    settings = {} if name == "uptake" else SCREEN
    (file,) = make_series(1, edit=lambda number, made: FORMS[name](made), **settings).iterdir()
    assert read_image(file)[0].size
    whole, chance, refused = file.read_bytes(), random.Random(name), 0
    target = tmp_path / "mutated.dcm"
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 10])):
            data[chance.randrange(132, len(data))] = chance.choice([0, 1, 255, chance.randrange(256)])
        target.write_bytes(data if chance.random() < 0.9 else data[: chance.randrange(140, len(data))])
        start = time.process_time()
        try:
            assert read_image(target)[0].ndim in (3, 4)
        except FusionInputError as error:
            refused += 1
            assert "\n" not in str(error)
        assert time.process_time() - start < 20
    assert refused > 50 and peak_memory() < 2 * 2**20
