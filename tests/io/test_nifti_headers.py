"""What a NIfTI header can say: units, quaternions, codes, scales, offsets and pairs of files, honoured or refused."""

from __future__ import annotations

import gzip
import shutil

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image
from clinicalfmamba_nets.io.nifti_header import read_header

AFFINE = np.array([[-0.85, 0.31, 0, 12.5], [-0.31, -0.85, 0, -40], [0, 0, 5.5, 7], [0, 0, 0, 1]])
PLAIN = np.array([[-2.0, 0, 0, 5], [0, -2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])


def voxels(shape=(7, 6, 5), dtype=np.int16):
    """Random voxels."""
    return np.random.default_rng(2).integers(0, 200, shape).astype(dtype)


def save(path, array=None, affine=PLAIN, sform=2, qform=1, kind=nibabel.Nifti1Header, endian="<", behind=b"", **fields):
    """Write a file by hand, because nibabel's own saving mends what a test breaks."""
    array = voxels() if array is None else array
    header = kind(endianness=endian)
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_zooms([*np.linalg.norm(affine[:3, :3], axis=0), *[1.0] * 4][: array.ndim])
    header.set_sform(affine, sform)
    header.set_qform(affine, qform)
    header.set_xyzt_units("mm")
    size = int(header["sizeof_hdr"])
    header["vox_offset"] = size + 4
    header["magic"] = b"n+1" if size == 348 else b"n+2\0\r\n\x1a\n"
    for name, value in fields.items():
        header[name] = value
    data = header.binaryblock.ljust(size + 4, b"\0") + array.astype(array.dtype.newbyteorder(endian)).tobytes(order="F")
    path.write_bytes((gzip.compress(data) if path.name.endswith(".gz") else data) + behind)
    return path


BOTH = pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])


@BOTH
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_headers_of_both_versions_and_byte_orders(tmp_path, kind, endian, name):
    read, meta = read_image(save(tmp_path / name, affine=AFFINE, kind=kind, endian=endian))
    assert np.array_equal(read, voxels()) and np.allclose(meta["affine"], AFFINE, atol=1e-5)
    assert not meta["warnings"] and not meta["notes"] and meta["coordinates"] == "patient"


@BOTH
@pytest.mark.parametrize(("code", "factor", "words"), [(1, 1e3, "metres"), (2, 1, ""), (3, 1e-3, "micro"), (0, 1, "")])
@pytest.mark.parametrize("codes", [(2, 1), (1, 0), (0, 1)])
def test_lengths_come_in_mm(tmp_path, kind, code, factor, words, codes):
    stored = np.diag([1 / factor] * 3 + [1]) @ AFFINE
    path = save(tmp_path / "a.nii", affine=stored, sform=codes[0], qform=codes[1], kind=kind, xyzt_units=code | 8)
    read, meta = read_image(path)
    assert np.allclose(meta["affine"], AFFINE, atol=1e-3) and bool(meta["notes"]) == bool(words)
    write_image(tmp_path / "b.nii", read, like=path, affine=meta["affine"])
    again = nibabel.load(tmp_path / "b.nii")
    assert int(again.header["xyzt_units"]) == code | 8 and np.allclose(again.affine, stored, rtol=1e-4, atol=1e-6)
    write_image(tmp_path / "c.nii", read, like=path, affine=PLAIN)
    assert np.allclose(read_image(tmp_path / "c.nii")[1]["affine"], PLAIN)


def test_units_that_cannot_be(tmp_path):
    with pytest.raises(FusionInputError, match="found voxels of 2e.03 x 2e.03 x 3e.03 mm by xyzt_units in metres"):
        read_image(save(tmp_path / "a.nii", xyzt_units=1))
    with pytest.raises(FusionInputError, match="xyzt_units of metres, mm or micrometres, found code 5"):
        read_image(save(tmp_path / "a.nii", xyzt_units=5))


@pytest.mark.parametrize("digits", [3, 4, 5])
@pytest.mark.parametrize("seed", range(8))
def test_rounded_quaternions(tmp_path, digits, seed):
    chance = np.random.default_rng(seed)
    vector = chance.normal(size=3)
    vector = np.round(vector / np.linalg.norm(vector) * (1 if seed % 2 else 1 + 10.0**-digits), digits)
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), vector, strict=True))
    path = save(tmp_path / "a.nii", sform=0, **fields)
    read, meta = read_image(path)
    turn = meta["affine"][:3, :3] / np.linalg.norm(meta["affine"][:3, :3], axis=0)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12) and np.linalg.det(turn) > 0
    length = max(vector @ vector, 1.0)
    axis = vector / np.sqrt(length)
    half = 2 * np.outer(axis, axis) - np.eye(3)  # half a turn about the axis: what a quaternion without a is
    assert np.allclose(turn, half, atol=2.5 * np.sqrt(2 * 10.0**-digits))
    write_image(tmp_path / "b.nii", read, like=path, affine=meta["affine"])
    assert np.allclose(nibabel.load(tmp_path / "b.nii").affine, meta["affine"], atol=1e-3)


@pytest.mark.parametrize("length", [1.01, 1.5, np.nan, np.inf])
def test_what_is_no_quaternion_is_refused(tmp_path, length):
    with pytest.raises(FusionInputError, match="a quaternion .quatern_b, c, d. of length 1"):
        read_image(save(tmp_path / "a.nii", sform=0, quatern_b=0, quatern_c=length, quatern_d=0))


@pytest.mark.parametrize(("qfac", "sign"), [(0, 1), (1, 1), (-1, -1), (-2.5, -1), (3, 1)])
def test_the_sign_of_qfac_alone_counts(tmp_path, qfac, sign):
    path = save(tmp_path / "a.nii", affine=np.diag([2.0, 2, 3, 1]), sform=0)
    raw = bytearray(path.read_bytes())
    raw[76:80] = np.float32(qfac).tobytes()
    path.write_bytes(raw)
    assert np.allclose(read_image(path)[1]["affine"], np.diag([2.0, 2, 3 * sign, 1]))


@pytest.mark.parametrize(("shift", "told"), [([0.4, 0, 0], ""), ([6, 0, 3], "6.71 mm apart"), ([0, -40, 0], "40 mm")])
def test_sform_and_qform_that_disagree(tmp_path, shift, told):
    moved = PLAIN.copy()
    moved[:3, 3] += shift
    path = save(tmp_path / "a.nii")
    header = nibabel.load(path).header
    header.set_sform(moved, 2)
    path = save(tmp_path / "b.nii", srow_x=header["srow_x"], srow_y=header["srow_y"], srow_z=header["srow_z"])
    _, meta = read_image(path)
    assert np.allclose(meta["affine"], moved) and len(meta["warnings"]) == bool(told)
    assert not told or told in meta["warnings"][0]


@pytest.mark.parametrize("shear", [1e-6, 1e-3, 0.3])
def test_shears_are_kept(tmp_path, shear):
    affine = PLAIN.copy()
    affine[0, 2] = shear
    path = save(tmp_path / "a.nii.gz", affine=affine, qform=0)
    read, meta = read_image(path)
    write_image(tmp_path / "b.nii", read, like=path, affine=meta["affine"])
    assert np.allclose(meta["affine"], affine) and np.allclose(nibabel.load(tmp_path / "b.nii").affine, affine)


def test_no_codes_mean_no_place(tmp_path):
    path = save(tmp_path / "a.nii", sform=0, qform=0)
    read, meta = read_image(path)
    assert meta["coordinates"] == "none" and "place in space not known" in meta["warnings"][0]
    assert np.linalg.norm(meta["affine"][:3, :3], axis=0).tolist() == [2, 2, 3]
    write_image(tmp_path / "b.nii", read, like=path, affine=meta["affine"])
    again = nibabel.load(tmp_path / "b.nii").header
    assert not again["sform_code"] and not again["qform_code"]


@pytest.mark.parametrize(
    ("slope", "intercept", "scale"),
    [
        (0, np.nan, (1, 0)),
        (np.nan, 5, (1, 0)),
        (1, np.nan, (1, 0)),
        (2, np.nan, (2, 0)),
        (0.5, -3, (0.5, -3)),
        (-1, 7, (-1, 7)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_scales_that_are_no_numbers(tmp_path, slope, intercept, scale, dtype):
    array = voxels(dtype=dtype)
    path = save(tmp_path / "a.nii", array, scl_slope=slope, scl_inter=intercept)
    read, meta = read_image(path)
    assert np.allclose(read, array.astype(float) * scale[0] + scale[1])
    assert bool(meta["warnings"]) == (np.isnan(intercept) and slope != 0)
    write_image(tmp_path / "b.nii", read, like=path, affine=meta["affine"])
    assert np.allclose(nibabel.load(tmp_path / "b.nii").get_fdata(), read)


@pytest.mark.parametrize("fields", [{"scl_slope": np.inf}, {"scl_slope": 1, "scl_inter": -np.inf}])
def test_endless_scales_are_refused(tmp_path, fields):
    with pytest.raises(FusionInputError, match="a finite scale of the values"):
        read_image(save(tmp_path / "a.nii", **fields))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@BOTH
def test_an_offset_of_zero_stands_for_the_end_of_the_header(tmp_path, name, kind):
    read, meta = read_image(save(tmp_path / name, kind=kind, vox_offset=0))
    assert np.array_equal(read, voxels()) and "vox_offset is 0" in meta["warnings"][0]


@pytest.mark.parametrize("offset", [-16, 16, 200, 352.5, np.nan, np.inf, 1e30])
def test_impossible_offsets_are_refused(tmp_path, offset):
    with pytest.raises(FusionInputError, match="found vox_offset"):
        read_image(save(tmp_path / "a.nii", vox_offset=offset))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_bytes_behind_the_voxels_are_told(tmp_path, name):
    read, meta = read_image(save(tmp_path / name, behind=b"garbage"))
    assert np.array_equal(read, voxels()) and meta["warnings"] == ["7 bytes behind the voxels left out"]
    read, meta = read_image(save(tmp_path / "b.nii.gz", behind=bytes(1000)))  # a tape's or disk's last block
    assert np.array_equal(read, voxels()) and not meta["warnings"]


def test_members_of_gzip_after_each_other(tmp_path):
    whole = save(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(
        b"".join(gzip.compress(whole[place : place + 99]) for place in range(0, 999, 99))
    )
    assert np.array_equal(read_image(tmp_path / "b.nii.gz")[0], voxels())


def test_a_file_that_goes_on_and_on_is_refused(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(2**26)))
    with pytest.raises(FusionInputError, match="found more than 16777216 bytes behind its voxels"):
        read_image(path)


@pytest.mark.parametrize("ending", [(".hdr", ".img"), (".HDR", ".IMG"), (".hdr.gz", ".img.gz")])
def test_two_files(tmp_path, ending):
    nibabel.save(nibabel.Nifti1Pair(voxels(), AFFINE), tmp_path / f"a{ending[1].lower()}")
    for half in ending:
        if not (tmp_path / f"a{half}").exists():
            shutil.move(tmp_path / f"a{half.lower()}", tmp_path / f"a{half}")
    for half in ending:
        read, meta = read_image(tmp_path / f"a{half}")
        assert np.array_equal(read, voxels()) and np.allclose(meta["affine"], AFFINE, atol=1e-5)
    write_image(tmp_path / "b.nii", read, like=tmp_path / f"a{ending[0]}", affine=meta["affine"])
    assert np.array_equal(nibabel.load(tmp_path / "b.nii").get_fdata(), voxels())
    (tmp_path / f"a{ending[1]}").unlink()
    with pytest.raises(FusionInputError, match=f"expected a{ending[1]} beside it, the other half"):
        read_image(tmp_path / f"a{ending[0]}")


def test_analyze_is_refused_by_name(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(voxels(), PLAIN), tmp_path / "a.img")
    with pytest.raises(FusionInputError, match="Analyze 7.5 image, which does not tell left from right"):
        read_image(tmp_path / "a.img")


@pytest.mark.parametrize(("samples", "code"), [(3, 128), (4, 2304)])
@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4), (5, 4, 1)])
def test_colors(tmp_path, samples, code, shape):
    array = voxels((*shape, samples), np.uint8)
    array[0] = [255, 0, 9, 0][:samples]
    kind = np.dtype([(letter, "u1") for letter in "RGBA"[:samples]])
    path = save(tmp_path / "a.nii.gz", np.ascontiguousarray(array).view(kind)[..., 0])
    read, meta = read_image(path)
    assert np.array_equal(read, array[..., :3]) and meta["color"] and meta["value_range"] == 255
    array[..., 1], array[..., 2] = array[..., 0], array[..., 0]
    read, meta = read_image(save(tmp_path / "b.nii", np.ascontiguousarray(array).view(kind)[..., 0]))
    assert np.array_equal(read, array[..., 0]) and not meta["color"] and "read as grey" in meta["notes"][-1]


@pytest.mark.parametrize("edge", [np.s_[:2], np.s_[:, :, -1:], np.s_[:, :3], np.s_[0, 0, 0]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_at_the_border_is_background(tmp_path, edge, dtype):
    array = voxels((7, 6, 5), dtype) + 3
    array[edge] = np.nan
    read, meta = read_image(save(tmp_path / "a.nii.gz", array))
    missing = np.isnan(array)
    assert np.array_equal(meta["background"], missing) and np.array_equal(read[~missing], array[~missing])
    assert (read[missing] == array[~missing].min()).all()
    assert f"{missing.sum()} NaN values" in meta["warnings"][0]


def test_nan_inside_is_refused(tmp_path):
    array = voxels((9, 9, 9), np.float32)
    array[4, 4, 4], array[:2] = np.nan, np.nan
    with pytest.raises(FusionInputError, match=r"found 163 NaN values .* 1 of them inside the image"):
        read_image(save(tmp_path / "a.nii", array))


@pytest.mark.parametrize("factor", [1e37, 1e200, -1e300])
def test_values_too_great_for_the_network_are_refused(tmp_path, factor):
    with pytest.raises(FusionInputError, match=r"expected values up to 1e\+18, found values up to"):
        read_image(save(tmp_path / "a.nii", voxels(dtype=np.float64) * factor))


@BOTH
def test_no_free_text_reaches_a_result(tmp_path, kind):
    texts = {"descrip": b"PatientID TEST-0001", "aux_file": b"Test H", "intent_name": b"T.Head"}
    texts |= {"db_name": b"TEST^HEAD"} if kind is nibabel.Nifti1Header else {}
    path = save(tmp_path / "a.nii", kind=kind, **texts)
    write_image(tmp_path / "b.nii", voxels(), like=path)
    assert b"T.Head" in path.read_bytes()
    result = (tmp_path / "b.nii").read_bytes()
    assert not any(text in result for text in texts.values())


def test_nibabel_says_nothing(tmp_path, capfd):
    read_image(save(tmp_path / "a.nii", sform=0, pixdim=[0, 2, 2, 3, 0, 0, 0, 0], bitpix=7, sizeof_hdr=348))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_a_slice_of_any_plane_keeps_its_place(tmp_path, flat):
    shape = [7, 6, 5]
    shape[flat] = 1
    path = save(tmp_path / "a.nii.gz", voxels(shape), affine=AFFINE)
    read, meta = read_image(path)
    flattened = meta["affine"][:, [*(axis for axis in range(3) if axis != flat), flat, 3]]
    write_image(tmp_path / "b.nii.gz", read.squeeze(flat), like=path, affine=flattened)
    one, two = nibabel.load(path), nibabel.load(tmp_path / "b.nii.gz")
    assert one.shape == two.shape and np.allclose(one.affine, two.affine)
    assert np.array_equal(one.get_fdata(), two.get_fdata())


def test_a_distance_of_zero_and_labels_are_told(tmp_path):
    array = np.zeros((4, 4, 3), np.int16)
    image = nibabel.Nifti1Image(array, np.diag([1.0, 1, 3, 1]))
    image.header.set_sform(None, 0)
    image.header.set_qform(np.diag([1.0, 1, 3, 1]), 1)
    image.header["intent_code"] = 1002
    path = tmp_path / "labels.nii"
    nibabel.save(image, path)
    head = read_header(path)
    assert head.warnings == [] and "labels of regions" in head.notes[0]
    data = bytearray(path.read_bytes())
    data[68:70] = (5).to_bytes(2, "little")  # intent_code
    path.write_bytes(data)
    assert read_header(path).warnings == ["intent_code 5: its values are those of a statistical test, no image"]
    data[68:70] = bytes(2)
    data[88:92] = bytes(4)  # pixdim[3]
    path.write_bytes(data)
    assert read_header(path).warnings == ["no distance of its voxels (pixdim 0): 1 mm assumed"]


@pytest.mark.parametrize(("factor", "told"), [(1e-3, True), (1.0, False), (1e3, True)])
def test_voxels_that_no_head_has_are_told(tmp_path, factor, told):
    affine = np.diag([factor, factor, 3 * factor, 1])
    image = nibabel.Nifti1Image(np.zeros((4, 4, 3), np.int16), affine)
    image.header.set_xyzt_units(0)
    nibabel.save(image, tmp_path / "a.nii")
    warnings = read_header(tmp_path / "a.nii").warnings
    assert [text.endswith("mm: no head has such, its units may be others") for text in warnings] == [True] * told


@pytest.mark.parametrize(
    ("array", "fields", "words"),
    [
        (voxels(), {"scl_slope": 1, "scl_inter": 1e9}, "256 steps of single precision, found values that differ by"),
        (voxels(dtype=np.int32) + 2**30, {}, "found values that differ by 199 around 1.074e.09; subtract their offset"),
        (voxels(dtype=np.uint32) + np.uint32(2**31), {}, "values that differ by 199"),
        (1 + 1e-8 * voxels(dtype=np.float64), {}, "values that differ by 1.99e-06 around 1"),
        (1e-300 * voxels(dtype=np.float64), {}, "expected values from 1e-37 on, found values up to .*; scale them up"),
    ],
)
def test_values_that_single_precision_would_lose_are_refused(tmp_path, array, fields, words):
    with pytest.raises(FusionInputError, match=words):
        read_image(save(tmp_path / "a.nii", array, **fields))


@pytest.mark.parametrize(
    "array",
    [
        voxels(dtype=np.int32) + 2**20,
        np.where(voxels() > 100, 70001.0, 70000.0),
        voxels(dtype=np.float64) * 1e-12,
        voxels(dtype=np.int64) * 2**30,
        np.full((4, 4, 4), 2**30, dtype=np.int32),
    ],
)
def test_values_that_single_precision_holds_are_read(tmp_path, array):
    assert np.array_equal(read_image(save(tmp_path / "a.nii", array))[0], array)
