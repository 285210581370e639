"""What an NRRD header can say: skips, detached data, encodings, kinds, spaces and units are honoured or refused."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io import read_image, write_image

LPS = "space: left-posterior-superior\nspace directions: (2,0,0) (0,2,0) (0,0,3)\nspace origin: (-5,6,7)\n"
PLACE = np.array([[-2.0, 0, 0, 5], [0, -2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])
PACK = {"raw": lambda data: data, "gzip": gzip.compress, "bzip2": bz2.compress, "bz2": bz2.compress}
NAMES = {"int16": "short", "uint8": "uchar", "float32": "float", "uint16": "ushort", "float64": "double"}


def voxels(shape=(5, 4, 3), dtype=np.int16):
    """Random voxels."""
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def save(path, array, fields=LPS, encoding="raw", before=b"", inside=b"", endian="little", behind=b""):
    """Write a file by hand: `before` stands in front of the encoded voxels, `inside` in front of the voxels."""
    header = f"NRRD0005\ntype: {NAMES[array.dtype.name]}\ndimension: {array.ndim}\n"
    header += f"sizes: {' '.join(map(str, array.shape))}\nencoding: {encoding}\nendian: {endian}\n{fields}\n"
    data = array.astype(array.dtype.newbyteorder("<" if endian == "little" else ">")).tobytes(order="F")
    data = before + PACK[encoding](inside + data) + behind
    if "voxels.bin" in fields:
        (path.parent / "voxels.bin").write_bytes(data)
        data = b""
    path.write_bytes(header.encode() + data)
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "bz2"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("detached", ["", "data file: voxels.bin\n", "datafile: ./voxels.bin\n"])
def test_skips_come_before_the_voxels(tmp_path, encoding, endian, detached):
    fields = LPS + detached + "line skip: 2\nbyte skip: 7\n"
    array = voxels()
    name = "a.nhdr" if detached else "a.nrrd"
    path = save(tmp_path / name, array, fields, encoding, b"one\ntwo\n", b"1234567", endian)
    read, meta = read_image(path)
    assert np.array_equal(read, array) and np.allclose(meta["affine"], PLACE) and not meta["warnings"]


def test_the_last_bytes_hold_the_voxels(tmp_path):
    array = voxels()
    path = save(tmp_path / "a.nhdr", array, LPS + "data file: voxels.bin\nbyte skip: -1\n", before=b"any header")
    assert np.array_equal(read_image(path)[0], array)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_skips_as_itk_takes_them(tmp_path, encoding):
    import itk

    fields = LPS + "line skip: 1\nbyte skip: 5\ndata file: voxels.bin\n"
    path = save(tmp_path / "a.nhdr", voxels(), fields, encoding, b"a line\n", b"12345")
    assert np.array_equal(itk.array_from_image(itk.imread(str(path))).T, read_image(path)[0])


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_bytes_behind_the_voxels_are_told(tmp_path, encoding):
    read, meta = read_image(save(tmp_path / "a.nrrd", voxels(), LPS, encoding, behind=b"junk"))
    assert np.array_equal(read, voxels()) and meta["warnings"] == ["4 bytes behind the voxels left out"]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("kind", "samples"), [("vector", 3), ("RGB-color", 3), ("RGBA-color", 4), ("3-color", 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_samples_are_colors(tmp_path, axis, kind, samples, dtype):
    array = voxels((6, 5, samples), dtype) * (np.iinfo(dtype).max // 255)
    kinds, directions = ["domain", "domain"], ["(1,0,0)", "(0,1,0)"]
    kinds.insert(axis, kind)
    directions.insert(axis, "none")
    fields = f"space: LPS\nspace directions: {' '.join(directions)}\nspace origin: (0,0,0)\nkinds: {' '.join(kinds)}\n"
    read, meta = read_image(save(tmp_path / "a.nrrd", np.moveaxis(array, -1, axis), fields))
    assert np.array_equal(read, array[..., :3]) and meta["color"] and meta["value_range"] == np.iinfo(dtype).max


def test_a_volume_in_color_and_one_that_is_grey(tmp_path):
    fields = "space: RAS\nspace directions: none (1,0,0) (0,1,0) (0,0,2)\nspace origin: (1,2,3)\n"
    fields += "kinds: vector space space space\n"
    color = voxels((3, 5, 4, 6), np.uint8)
    read, meta = read_image(save(tmp_path / "a.nrrd", color, fields))
    assert np.array_equal(read, np.moveaxis(color, 0, -1)) and meta["affine"][:3, 3].tolist() == [1, 2, 3]
    color[1], color[2] = color[0], color[0] + 2
    read, meta = read_image(save(tmp_path / "a.nrrd", color, fields))
    assert read.shape == (5, 4, 6) and not meta["color"] and "nearly grey" in meta["notes"][0]


@pytest.mark.parametrize("kind", ["list", "time", "vector", "scalar", "stub"])
@pytest.mark.parametrize("axis", [0, 3])
def test_one_sample_is_none(tmp_path, kind, axis):
    array = voxels((5, 4, 3))
    kinds, directions = ["domain"] * 3, ["(2,0,0)", "(0,2,0)", "(0,0,3)"]
    kinds.insert(axis, kind)
    directions.insert(axis, "none")
    fields = f"space: LPS\nspace directions: {' '.join(directions)}\nspace origin: (-5,6,7)\nkinds: {' '.join(kinds)}\n"
    read, meta = read_image(save(tmp_path / "a.nrrd", np.expand_dims(array, axis), fields))
    assert np.array_equal(read, array) and np.allclose(meta["affine"], PLACE)


@pytest.mark.parametrize(
    ("shape", "dtype", "fields", "message"),
    [
        ((2, 5, 4, 3), np.int16, "kinds: list domain domain domain\n", r"found 4D \(2 x 5 x 4 x 3, kinds list"),
        ((5, 4, 3, 2), np.int16, "kinds: domain domain domain time\n", "4D"),
        ((3, 5, 4), np.float32, "kinds: vector domain domain\n", "3 samples of kind vector and type float32"),
        ((3, 5, 4), np.int16, "kinds: 3-vector domain domain\n", "3 samples of kind 3-vector"),
        ((3, 5, 4), np.uint8, "kinds: HSV-color domain domain\n", "kind hsv-color"),
        ((2, 5, 4), np.float32, "kinds: complex domain domain\n", "kind complex"),
        ((3, 5, 4), np.uint8, "", "3 colors of a slice, or a thin volume"),
        ((3, 5, 4), np.uint8, "kinds: vector domain\n", "expected 3 kinds, found 2"),
        ((5, 4, 3), np.int16, "space: talairach\n", "a space such as left-posterior-superior, found talairach"),
        ((5, 4, 3), np.int16, "space: left-posterior-superior-time\n", "a space such as"),
        ((5, 4, 3), np.int16, LPS + "space units: furlong furlong furlong\n", "3 units of length"),
        ((5, 4, 3), np.int16, LPS.replace("(0,2,0) ", ""), "expected 3 of them, one an axis"),
        ((5, 4, 3), np.int16, LPS.replace("(0,2,0)", "(0,2)"), "vectors of 3 numbers"),
        ((5, 4, 3), np.int16, LPS.replace("(0,2,0)", "(0,x,0)"), "vectors of numbers"),
        ((5, 4, 3), np.int16, LPS + "byte skip: 9999999\n", "found .* bytes for 5 x 4 x 3"),
        ((5, 4, 3), np.int16, LPS + "line skip: 50\n", "truncated or damaged"),
        ((5, 4, 3), np.int16, LPS + "sizes: 5 4 3\n", "the field 'sizes' once"),
    ],
)
def test_what_is_not_honoured_is_refused(tmp_path, shape, dtype, fields, message):
    with pytest.raises(FusionInputError, match=message):
        read_image(save(tmp_path / "a.nrrd", voxels(shape, dtype), fields))


def test_a_missing_byte_order_is_refused(tmp_path):
    path = save(tmp_path / "a.nrrd", voxels())
    path.write_bytes(path.read_bytes().replace(b"endian: little\n", b""))
    with pytest.raises(FusionInputError, match="endian: little or big, found none"):
        read_image(path)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("cm", 10), ("um", 1e-3), ("µm", 1e-3), ("m", 1e3)])
def test_lengths_come_in_mm(tmp_path, unit, factor):
    units = " ".join([f'"{unit}"'] * 3)
    _, meta = read_image(save(tmp_path / "a.nrrd", voxels(), LPS + f"space units: {units}\n"))
    assert np.allclose(meta["affine"][:3], PLACE[:3] * factor) and meta["coordinates"] == "patient"
    assert bool(meta["notes"]) == (factor != 1)
    _, meta = read_image(save(tmp_path / "a.nrrd", voxels(), f"spacings: 1 2 3\nunits: {units}\n"))
    assert np.allclose(np.diag(meta["affine"])[:3], np.array([1, 2, 3]) * factor) and meta["coordinates"] == "none"


@pytest.mark.parametrize("space", ["space dimension: 3", "space: scanner-xyz", "space: 3D-right-handed"])
def test_spaces_without_anatomy_keep_their_spacing(tmp_path, space):
    fields = LPS.replace("space: left-posterior-superior", space)
    path = save(tmp_path / "a.nrrd", voxels(), fields)
    read, meta = read_image(path)
    assert np.linalg.norm(meta["affine"][:3, :3], axis=0).tolist() == [2, 2, 3] and meta["coordinates"] == "other"
    assert "left and right not known" in meta["warnings"][0]
    write_image(tmp_path / "b.nrrd", read, like=path, affine=meta["affine"])
    _, again = read_image(tmp_path / "b.nrrd")
    assert np.array_equal(again["affine"], meta["affine"]) and again["warnings"] == meta["warnings"]


def test_axis_limits_give_the_spacing(tmp_path):
    fields = "axis mins: 0 0 0\naxis maxs: 10 6 6\ncenterings: cell node node\n"
    _, meta = read_image(save(tmp_path / "a.nrrd", voxels(), fields))
    assert np.diag(meta["affine"]).tolist() == [2, 2, 3, 1]


@pytest.mark.parametrize("fields", ["spacings: 2 2 3\n", LPS.replace("space origin: (-5,6,7)\n", "")])
def test_a_result_says_no_more_about_its_place_than_the_source(tmp_path, fields):
    path = save(tmp_path / "a.nrrd", voxels(), fields)
    read, meta = read_image(path)
    write_image(tmp_path / "b.nrrd", read, like=path, affine=meta["affine"])
    _, again = read_image(tmp_path / "b.nrrd")
    assert again["coordinates"] == meta["coordinates"] != "patient" and np.allclose(again["affine"], meta["affine"])


def test_no_text_of_the_source_reaches_a_result(tmp_path):
    fields = LPS + "content: Test^Head\n# Test Head, P7\nPatientName:=Test^Head\n"
    path = save(tmp_path / "a.nrrd", voxels(), fields)
    write_image(tmp_path / "b.nrrd", read_image(path)[0], like=path)
    assert b"Test" in path.read_bytes() and b"Test" not in (tmp_path / "b.nrrd").read_bytes()


def test_a_header_that_never_ends_takes_no_memory(tmp_path):
    path = tmp_path / "a.nrrd"
    with open(path, "wb") as file:
        file.write(b"NRRD0005\ncontent: ")
        file.truncate(3 * 2**30)
    with pytest.raises(FusionInputError, match="expected an empty line behind the header, found none in its first"):
        read_image(path)


def test_windows_line_ends(tmp_path):
    path = save(tmp_path / "a.nrrd", voxels())
    header, data = path.read_bytes().split(b"\n\n", 1)
    path.write_bytes(header.replace(b"\n", b"\r\n") + b"\r\n\r\n" + data)
    assert np.array_equal(read_image(path)[0], voxels())


SPACES = {
    "left-posterior-superior": (1, 1),
    "LPS": (1, 1),
    "Right-Anterior-Superior": (-1, -1),
    "ras": (-1, -1),
    "left-anterior-superior": (1, -1),
    "LAS": (1, -1),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_one_place_in_each_anatomical_space(tmp_path, space, ends):
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 3]]) * np.array([*SPACES[space], 1])[:, None]
    origin = np.array([-5, 6, 7]) * [*SPACES[space], 1]
    vectors = " ".join(f"({','.join(map(str, turn[:, axis]))})" for axis in range(3))
    fields = f"space: {space}\nspace directions: {vectors}\nspace origin: ({','.join(map(str, origin))})\n"
    path = save(tmp_path / "a.nrrd", voxels(), fields)
    head, _, data = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head.replace(b"\n", ends.encode()) + 2 * ends.encode() + data)
    array, meta = read_image(path)
    expected = [[-0.8, 0.6, 0, 5], [-0.6, -0.8, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]]
    assert np.allclose(meta["affine"], expected) and meta["coordinates"] == "patient" and not meta["warnings"]
    assert np.array_equal(array, voxels())


@pytest.mark.parametrize("space", ["RAI", "LPI", "right-posterior-superior", "RAST", "scanner-xyz-time", "MNI"])
def test_spaces_of_another_name_are_refused(tmp_path, space):
    path = save(tmp_path / "a.nrrd", voxels(), LPS.replace("left-posterior-superior", space))
    with pytest.raises(
        FusionInputError, match=f"expected a space such as left-posterior-superior, found {space.lower()}"
    ):
        read_image(path)
