"""Every DICOM item of the collections, as its notes ask: handled, or refused in one line. Prints one table (-s)."""

from __future__ import annotations

import json
import time

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image

# Item -> size of the volume, or words of the refusal.
REAL = {
    "ct_phantom_5mm": (512, 512, 16),
    "mr_t1gd_vsseg001": (512, 512, 12),
    "mr_pd_t2_dual_echo": "found 2: #1 MR 3 pd+t2_tse_sag_ISO_1.8mm EchoTime=11",
    "mr_pd_t2_dual_echo::EchoTime=11": (64, 64, 35),
    "mr_pd_t2_dual_echo::EchoTime=92": (64, 64, 35),
    "ct_gantry_tilt": (512, 512, 4),
    "ct_missing_slice_gap": "a slice is missing",
    "ct_same_position": "found all 4 at one",
    "mr_two_slices": (256, 256, 2),
    "mr_single_slice": (256, 256, 1),
    "mr_j2k": (256, 256, 4),
    "mr_rle": (256, 256, 4),
    "mr_hitachi_oblique": (64, 64, 4),
    "mr_non_isotropic_rescale": (64, 28, 4),
    "mr_rgb": (52, 77, 4, 3),
    "mr_enhanced_philips": (256, 256, 8),
    "mr_siemens_mosaic": "a mosaic of many",
    "dicomdir_mixed_mr": "(MR 700): expected one orientation of all slices",
    "dicomdir_mixed_mr::700": "one orientation",
    "dicomdir_mixed_mr::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-bigEnd::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-implicit::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-nooffset::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-nopatient::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-reordered::#1": (16, 16, 1),
    "dicomdir_mixed_mr/DICOMDIR-empty.dcm": "a DICOMDIR that names images, found none",
    "pydicom_singles": "expected one series of images",
    "pydicom_singles/CT_small.dcm": (128, 128, 1),
    "pydicom_singles/MR_small.dcm": (64, 64, 1),
    "pydicom_singles/MR_small_bigendian.dcm": (64, 64, 1),
    "pydicom_singles/MR_small_implicit.dcm": (64, 64, 1),
    "pydicom_singles/MR_small_jpeg_ls_lossless.dcm": (64, 64, 1),
    "pydicom_singles/MR_truncated.dcm": "truncated",
    "pydicom_singles/badVR.dcm": "expected numbers in its header, found NumberOfFrames '1A'",
    "pydicom_singles/eCT_Supplemental.dcm": (512, 512, 2),
    "pydicom_singles/emri_small.dcm": "a place for each of 10 frames",
    "pydicom_singles/emri_small_RLE.dcm": "a place for each of 10 frames",
    "pydicom_singles/emri_small_big_endian.dcm": "a place for each of 10 frames",
    "pydicom_singles/examples_rgb_color.dcm": "expected a CT, MR or PET image, found US",
    "pydicom_singles/liver.dcm": "expected an image, found SEG",
    "pydicom_singles/no_meta.dcm": "expected a DICOM file",
    "pydicom_singles/rtdose.dcm": "expected an image, found RTDOSE",
    "pydicom_singles/rtstruct.dcm": "expected an image, found RTSTRUCT without pixels",
    "nibabel_singles/decimal_rescale.dcm": (128, 96, 1),
    "nibabel_singles/slicethickness_empty_string.dcm": (384, 384, 1),
    "wg04/CT1_J2KR.dcm": (512, 512, 1),
    "wg04/NM1_J2KR.dcm": "found a planar nuclear medicine image, WHOLE BODY",
}
BAD = {
    "dicom/good_ct/": (128, 128, 8),
    "dicom/empty_folder/": "expected a folder with DICOM images",
    "dicom/missing_slice/": "expected slices every 5 mm, found 10 mm",
    "dicom/mixed_series/": "found 2: #1 CT 99 OTHER",
    "dicom/non_dicom_among/": (128, 128, 8),
    "dicom/truncated_slice/": "IM004.dcm",
    "dicom/rgb/": "found RGB with 3 samples",
    "dicom/traversal_tags/": (128, 128, 8),
    "dicom/no_rescale_no_thickness/": (128, 128, 8),
    "dicom/rows_cols_lie/": "65535 x 65535",
}
NOTES = {
    "ct_gantry_tilt": "14.0 degrees",
    "dicom/non_dicom_among/": "not DICOM, left out: .DS_Store, README.txt, Thumbs.db, fake.dcm",
    "dicom/no_rescale_no_thickness/": "taken as HU",
    "mr_single_slice": "1 mm assumed",
}


def outcome(path):
    """Size and notes of a volume, or the refusal."""
    try:
        array, meta = read_image(path)
    except FusionInputError as error:
        return str(error), ""
    return array.shape, "; ".join([*meta["notes"], *meta["warnings"]])


def agrees(found, notes, expected, item):
    """Whether an outcome is the expected one: the size, or a refusal in one line with these words."""
    if isinstance(expected, str):
        return isinstance(found, str) and expected in found and "\n" not in found
    return found == expected and NOTES.get(item, "") in notes


def table(folder, expected):
    """Read every item; print a table and return the items that behave otherwise."""
    wrong = []
    for item, wanted in expected.items():
        start = time.monotonic()
        found, notes = outcome(folder / item)
        right = agrees(found, notes, wanted, item) and time.monotonic() - start < 60
        wrong += [] if right else [(item, found)]
        verdict = "refused" if isinstance(found, str) else "volume " + " x ".join(map(str, found))
        told = (found if isinstance(found, str) else notes).replace(f"{folder}/", "")
        print(f"{'ok ' if right else 'BAD'} {item:<50} {verdict:<24} {told[:150]}")
    return wrong


def test_every_real_series_is_handled_or_refused(shared_data):
    assert not table(shared_data / "dicom", REAL)


def test_every_item_of_the_folder_is_in_the_table(shared_data):
    items = {item.name for item in (shared_data / "dicom").iterdir() if item.is_dir()}
    assert items <= {item.split("/")[0].split("::")[0] for item in REAL}


def test_every_malformed_series_is_handled_or_refused(shared_data, peak_memory):
    assert not table(shared_data / "bad", BAD)
    index = json.loads((shared_data / "bad" / "index.json").read_text())
    assert {entry["path"] for entry in index if entry["kind"] == "dicom folder"} == set(BAD)
    assert peak_memory() < 4 * 2**20, "KiB: below 4 GiB"
