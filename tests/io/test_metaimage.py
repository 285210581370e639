"""MetaImage and FreeSurfer volumes: read as ITK and nibabel read them, refused where they are not whole."""

from __future__ import annotations

import gzip
import zlib

import nibabel
import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import is_volume, read_image, stated_modality

LPS = np.array([[0.8, 0.6, 0, -12.5], [-0.6, 0.8, 0, 40], [0, 0, 1, 7], [0, 0, 0, 1]])
SIDES = (2.0, 2.5, 3.0)
TURN = "TransformMatrix = 0.8 -0.6 0 0.6 0.8 0 0 0 1\nOffset = -12.5 40 7\n"
NAMES = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT", "uint16": "MET_USHORT", "int32": "MET_INT"}


def voxels(shape=(7, 6, 5), dtype=np.int16):
    """Random voxels."""
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


def save(path, array, place=TURN, order="<", packed=False, samples=1, more="", before=b"", behind=b"", local="LOCAL"):
    """Write a MetaImage by hand; samples come first in the array."""
    shape = array.shape[1:] if samples > 1 else array.shape
    data = array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
    data = zlib.compress(data) if packed else data
    fields = f"ObjectType = Image\nNDims = {len(shape)}\nBinaryData = True\n"
    fields += f"CompressedDataSize = {len(data)}\n" if packed else ""  # without it ITK reads noise
    fields += f"BinaryDataByteOrderMSB = {order == '>'}\nCompressedData = {packed}\n{place}"
    fields += f"ElementSpacing = {' '.join(map(str, SIDES[: len(shape)]))}\nDimSize = {' '.join(map(str, shape))}\n"
    fields += f"ElementNumberOfChannels = {samples}\n" if samples > 1 else ""
    fields += f"{more}ElementType = {NAMES[array.dtype.name]}\nElementDataFile = {local}\n"
    data = before + data + behind
    if local != "LOCAL" and "/" not in local:
        (path.parent / local).write_bytes(data)
        data = b""
    path.write_bytes(fields.encode() + data)
    return path


def ras():
    """The affine of `TURN` and `SIDES`, index to RAS mm."""
    return np.diag([-1.0, -1, 1, 1]) @ LPS @ np.diag([*SIDES, 1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("local", ["LOCAL", "voxels.raw"])
def test_voxels_and_place(tmp_path, dtype, order, packed, local):
    path = tmp_path / ("a.mha" if local == "LOCAL" else "a.mhd")
    save(path, voxels(dtype=dtype), order=order, packed=packed, local=local)
    array, meta = read_image(path)
    assert np.array_equal(array, voxels(dtype=dtype)) and array.dtype == dtype
    assert np.allclose(meta["affine"], ras()) and meta["coordinates"] == "patient" and not meta["warnings"]
    assert is_volume(path)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_equal_to_itk(tmp_path, packed):
    import itk

    image = itk.imread(str(save(tmp_path / "a.mha", voxels(), packed=packed)))
    array, meta = read_image(tmp_path / "a.mha")
    assert np.array_equal(itk.array_from_image(image).T, array)
    turn = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    assert np.allclose(np.diag([-1, -1, 1]) @ turn, meta["affine"][:3, :3])
    assert np.allclose(np.diag([-1, -1, 1]) @ list(image.GetOrigin()), meta["affine"][:3, 3])
    itk.imwrite(image, str(tmp_path / "b.mhd"), compression=packed)
    again, other = read_image(tmp_path / "b.mhd")
    assert np.array_equal(again, array) and np.allclose(other["affine"], meta["affine"])


def test_headers_of_other_kinds(tmp_path):
    array, meta = read_image(save(tmp_path / "a.mha", voxels(), place=""))
    assert meta["coordinates"] == "none" and np.diag(meta["affine"]).tolist() == [*SIDES, 1] and meta["warnings"]
    _, meta = read_image(save(tmp_path / "a.mha", voxels(), more="DistanceUnits = cm\n"))
    assert np.allclose(meta["affine"][:3], ras()[:3] * 10) and meta["notes"] == ["lengths in cm read in mm"]
    array, _ = read_image(save(tmp_path / "a.mhd", voxels(), more="HeaderSize = 9\n", before=bytes(9), local="v.raw"))
    assert np.array_equal(array, voxels())
    array, _ = read_image(save(tmp_path / "a.mhd", voxels(), more="HeaderSize = -1\n", before=b"any", local="v.raw"))
    assert np.array_equal(array, voxels())
    array, meta = read_image(save(tmp_path / "a.mha", voxels(), behind=b"junk"))
    assert meta["warnings"] == ["4 bytes behind the voxels left out"]
    path = save(tmp_path / "a.mha", voxels())
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing", b"ElementSpacinX"))
    assert read_image(path)[1]["warnings"] == ["no distance of its voxels (ElementSpacing): 1 mm assumed"]
    color = voxels((3, 7, 6), np.uint8)
    array, meta = read_image(save(tmp_path / "a.mha", color, place="", samples=3))
    assert meta["color"] and np.array_equal(array, np.moveaxis(color, 0, -1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more": "ElementNumberOfChannels = 3\n"}, "3 samples of int16"),
        ({"more": "BinaryData = False\n"}, "expected binary voxels"),
        ({"more": "DistanceUnits = inch\n"}, "DistanceUnits of mm, cm or um"),
        ({"more": "NDims = 5\n"}, "expected a 2D or 3D image, found NDims 5"),
        ({"more": "DimSize = 7 6\n"}, "expected 3 numbers under DimSize"),
        ({"more": "DimSize = 30000 30000 30000\n"}, "30000 x 30000 x 30000"),
        ({"more": "ElementToIntensityFunctionSlope = 2\n"}, "found ElementToIntensityFunctionSlope 2"),
        ({"more": "ElementToIntensityFunctionOffset = -1024\n"}, "found ElementToIntensityFunctionOffset -1024"),
        ({"more": "HeaderSize = -5\n"}, "a HeaderSize that can be skipped"),
        ({"place": TURN.replace("0.8 -0.6", "x -0.6")}, "expected 9 numbers under TransformMatrix"),
        ({"place": "TransformMatrix = 0 0 0 0 0 0 0 0 0\n"}, "singular"),
        ({"local": "../a.raw"}, "a data file in the folder of its header"),
        ({"local": "LIST"}, "all voxels in one data file"),
        ({"local": "%03d.raw 1 5 1"}, "all voxels in one data file"),
    ],
)
def test_what_is_not_honoured_is_refused(tmp_path, settings, message):
    with pytest.raises(FusionInputError, match=message):
        read_image(save(tmp_path / "a.mha", voxels(), **settings))


def test_foreign_and_endless_files(tmp_path):
    (tmp_path / "a.mha").write_bytes(b"plain text")
    with pytest.raises(FusionInputError, match="expected a MetaImage, found a file that starts"):
        read_image(tmp_path / "a.mha")
    with open(tmp_path / "b.mha", "wb") as file:
        file.write(b"ObjectType = Image\nComment = ")
        file.truncate(3 * 2**30)
    with pytest.raises(FusionInputError, match="expected the field ElementDataFile, found none"):
        read_image(tmp_path / "b.mha")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_freesurfer(tmp_path, dtype, name):
    nibabel.save(nibabel.MGHImage(voxels(dtype=dtype), ras()), tmp_path / name)
    array, meta = read_image(tmp_path / name)
    assert np.array_equal(array, voxels(dtype=dtype)) and array.dtype == dtype and is_volume(tmp_path / name)
    assert np.allclose(meta["affine"], nibabel.load(tmp_path / name).affine, atol=1e-5)
    assert np.allclose(meta["affine"], ras(), atol=1e-4) and not meta["warnings"]


def test_freesurfer_without_a_place_or_with_frames(tmp_path):
    nibabel.save(nibabel.MGHImage(voxels(), ras()), tmp_path / "a.mgz")
    content = bytearray(gzip.decompress((tmp_path / "a.mgz").read_bytes()))
    content[28:30] = b"\0\0"
    (tmp_path / "a.mgz").write_bytes(gzip.compress(content))
    _, meta = read_image(tmp_path / "a.mgz")
    assert meta["coordinates"] == "none" and np.linalg.norm(meta["affine"][:3, :3], axis=0).tolist() == [1, 1, 1]
    nibabel.save(nibabel.MGHImage(voxels((4, 4, 4, 2)), ras()), tmp_path / "b.mgz")
    with pytest.raises(FusionInputError, match="expected a 3D image, found 2 frames"):
        read_image(tmp_path / "b.mgz")
    (tmp_path / "c.mgz").write_bytes(gzip.compress(bytes(400)))
    with pytest.raises(FusionInputError, match="expected an MGH volume, found a file that starts"):
        read_image(tmp_path / "c.mgz")


TURNS = {
    "RAI": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "LPI": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "RIP": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "ASR": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


def stated(tmp_path, turn, letters):
    """What is told of a volume whose axes run along `turn` (LPS) and are said to be `letters`."""
    numbers = " ".join(str(number) for axis in turn for number in axis)
    place = f"TransformMatrix = {numbers}\nOffset = 1 2 3\nAnatomicalOrientation = {letters}\n"
    _, meta = read_image(save(tmp_path / "a.mha", voxels(), place))
    assert np.allclose(meta["affine"][:3, :3], np.diag([-1, -1, 1]) @ np.array(turn).T * SIDES)
    return meta["warnings"], meta["notes"]


@pytest.mark.parametrize("letters", TURNS)
@pytest.mark.parametrize("turn", TURNS)
def test_an_orientation_that_contradicts_the_matrix_is_told(tmp_path, letters, turn):
    warnings, notes = stated(tmp_path, TURNS[turn], letters)
    told = f"AnatomicalOrientation {letters} contradicts TransformMatrix, which says {turn} and is used"
    assert [text.partition(":")[0] for text in warnings] == [told] * (letters != turn)
    assert notes == []


@pytest.mark.parametrize(
    ("letters", "note", "warned"),
    [("RAI", 0, 0), ("LPS", 1, 0), ("rai", 0, 0), ("LAI", 0, 1), ("RAS", 0, 1), ("???", 0, 0), ("RRI", 0, 0)],
)
def test_orientations_of_an_oblique_volume(tmp_path, letters, note, warned):
    angle = np.radians(20)
    turn = ((np.cos(angle), -np.sin(angle), 0), (np.sin(angle), np.cos(angle), 0), (0, 0, 1))
    warnings, notes = stated(tmp_path, turn, letters)
    assert (len(notes), len(warnings)) == (note, warned)


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, 0, 30), (-44, 20, 0), (40, -30, 50), (90, 0, 180), (33, 33, 33)])
def test_orientations_that_itk_writes_agree(tmp_path, angles):
    itk = pytest.importorskip("itk")
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        one, other = [index for index in range(3) if index != axis]
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    image = itk.image_from_array(voxels())
    image.SetDirection(itk.matrix_from_array(turn))
    itk.imwrite(image, str(tmp_path / "a.mha"))
    _, meta = read_image(tmp_path / "a.mha")
    assert meta["warnings"] == meta["notes"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("ElementSpacing = 2.0 2.5 3.0", "ElementSpacing = -2 2.5 3"), "an ElementSpacing above 0, found -2 2.5 3"),
        (("ElementSpacing = 2.0 2.5 3.0", "ElementSpacing = 0 2.5 3"), "an ElementSpacing above 0, found 0 2.5 3"),
        (
            ("TransformMatrix = 0.8 -0.6 0", "TransformMatrix = 1.6 -1.2 0"),
            "unit vectors, found axes of length 2,",
        ),
    ],
)
def test_lengths_that_can_be_read_in_two_ways_are_refused(tmp_path, change, words):
    path = save(tmp_path / "a.mha", voxels())
    data = path.read_bytes()
    assert change[0].encode() in data
    path.write_bytes(data.replace(change[0].encode(), change[1].encode()))
    with pytest.raises(FusionInputError, match=words):
        read_image(path)


@pytest.mark.parametrize(
    ("field", "stated"),
    [("MET_MOD_CT", "CT"), ("MET_MOD_MR", "MR"), ("MET_MOD_NM", ""), ("MET_MOD_UNKNOWN", ""), ("", "")],
)
def test_a_modality_that_the_header_states(tmp_path, field, stated):
    path = save(tmp_path / "a.mha", voxels(), more=f"Modality = {field}\n" if field else "")
    assert read_image(path)[1]["modality"] == stated == stated_modality(path)
    assert stated_modality(tmp_path / "missing.mha") == stated_modality(tmp_path / "a.nii.gz") == ""
