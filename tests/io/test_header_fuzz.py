"""Mutated headers of every format: read, or refused in one line, within seconds and within memory."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

COUNT = 2500
SECONDS = 20
MEMORY = 2 * 2**20  # KiB
WORDS = """0 -1 1 3 4 65535 2147483648 99999999999999999999 1e308 nan inf none ( () (1,0) (nan,nan,nan) domain vector
list RAS gzip bzip2 raw short uchar double MET_FLOAT True LOCAL LIST ../x"""
TOKENS = [*(word.encode() for word in WORDS.split()), b"", b"\xff\xfe", b"\0", b"\n", b"\n\n", b": ", b" = "]
NUMBERS = [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\xff\x7f", b"\0\x80", b"\x80\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f"]


def samples(folder: Path) -> list[tuple[list[Path], int, bool]]:
    """Write one small image of each kind: its files, how long its header is, and whether the header is text."""
    import nibabel
    from PIL import Image

    from clinicalfmamba_nets.io import write_image

    voxels = np.random.default_rng(0).integers(0, 255, (12, 10, 6))
    affine = np.diag([-2.0, -2, 3, 1])
    for name in ("a.nii", "b.nii.gz", "c.nrrd"):
        write_image(folder / name, voxels, affine=affine, dtype="int16")
    nibabel.save(nibabel.Nifti2Image(voxels.astype(np.float32), affine), folder / "d.nii")
    nibabel.save(nibabel.Nifti1Pair(voxels.astype(np.int16), affine), folder / "e.img")
    nibabel.save(nibabel.MGHImage(voxels.astype(np.float32), affine), folder / "f.mgh")
    raw = voxels.astype("<i2").tobytes(order="F")
    (folder / "g.raw").write_bytes(raw)
    (folder / "g.nhdr").write_text(
        "NRRD0005\ntype: short\ndimension: 3\nsizes: 12 10 6\nendian: little\nencoding: raw\n"
        "kinds: domain domain domain\nspace: LPS\n"
        "space directions: (2,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)\nspace units: mm mm mm\n"
        "byte skip: 0\nline skip: 0\ndata file: g.raw\n"
    )
    fields = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    )
    fields += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 2 2 3\nDimSize = 12 10 6\n"
    (folder / "h.mha").write_bytes(f"{fields}ElementType = MET_SHORT\nElementDataFile = LOCAL\n".encode() + raw)
    picture = voxels[..., 0].astype(np.uint8)
    for name, mode in (("i.png", "L"), ("j.png", "P"), ("k.png", "RGBA"), ("l.jpg", "RGB"), ("m.tif", "RGB")):
        Image.fromarray(picture).convert(mode).save(folder / name)
    Image.fromarray(picture.astype(np.uint16) * 257).save(folder / "n.tif", compression="tiff_lzw")
    write_image(folder / "o.png", picture.astype(float) * 257, dtype="uint16")
    write_slice(folder / "p.dcm", picture)
    lengths = {".dcm": 900, ".nii": 360, ".gz": 60, ".img": 0, ".mgh": 100, ".png": 60, ".jpg": 200, ".tif": 200}
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".nrrd", ".nhdr", ".mha"):
            found.append(([path], path.read_bytes().find(b"\n\n") if path.suffix == ".nrrd" else 420, True))
        elif path.suffix in lengths and path.suffix != ".img":
            found.append(([path], lengths[path.suffix], False))
    return [*found, ([folder / "e.hdr"], 348, False)]


def write_slice(path: Path, pixels: np.ndarray) -> None:
    """Write a DICOM slice."""
    from pydicom.dataset import Dataset, FileMetaDataset

    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.2.1"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    made.Modality, made.PatientID, made.SeriesNumber, made.InstanceNumber = "MR", "P7", 5, 1
    made.ImageOrientationPatient, made.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    made.PixelSpacing, made.SliceThickness, made.SamplesPerPixel = [1, 1], 2, 1
    made.Rows, made.Columns, made.PhotometricInterpretation = *pixels.shape, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = pixels.tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.save_as(path, enforce_file_format=True)


def mutated(content: bytes, length: int, text: bool, chance: random.Random) -> bytes:
    """Change some bytes, numbers or words of a header."""
    changed = bytearray(content)
    length = max(min(length, len(content)), 1)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        place = chance.randrange(length)
        kind = chance.random()
        if text and kind < 0.7:  # a word in place of another
            end = place
            while end < len(changed) and changed[end] not in b" \n(),:=":
                end += 1
            changed[place:end] = chance.choice(TOKENS)
        elif kind < 0.4:
            changed[place : place + 1] = bytes([chance.randrange(256)])
        elif kind < 0.9:
            value = chance.choice(NUMBERS)
            changed[place : place + len(value)] = value
        else:
            del changed[place : place + chance.randint(1, 8)]
    return bytes(changed)


def fuzz(count: int) -> dict[str, object]:
    """Read mutated images; return the faults, the slowest time and the greatest memory."""
    from clinicalfmamba_nets.errors import FusionInputError
    from clinicalfmamba_nets.io import is_volume, read_image

    chance, faults, slowest, refused = random.Random(14), [], 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        kinds = samples(Path(name))
        for number in range(count):
            (path,), length, text = kinds[number % len(kinds)]
            whole = path.read_bytes()
            content = mutated(whole, length, text, chance)
            path.write_bytes(content)
            start = time.monotonic()
            signal.alarm(SECONDS)
            try:
                is_volume(path)
                array, meta = read_image(path)
                if not np.isfinite(array).all() or array.ndim - bool(meta["color"]) not in (2, 3):
                    faults.append(f"{number} {path.name}: read as {array.shape}")
            except FusionInputError as error:
                refused += 1
                if "\n" in str(error) or "object at" in str(error):
                    faults.append(f"{number} {path.name}: {error}")
            except BaseException as error:
                faults.append(f"{number} {path.name}: {type(error).__name__}: {error}")
            signal.alarm(0)
            slowest = max(slowest, time.monotonic() - start)
            path.write_bytes(whole)
    status = Path("/proc/self/status").read_text()  # ru_maxrss of a child begins with its parent's
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"faults": faults, "slowest": slowest, "refused": refused, "memory": memory}


@pytest.mark.slow
def test_mutated_headers():
    words = [sys.executable, __file__, str(COUNT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["faults"], "\n".join(found["faults"][:20])
    assert not re.findall("(?i)nibabel|/PIL/|clinicalfmamba_nets|pixdim|qfac", done.stderr)
    assert found["slowest"] < SECONDS and found["memory"] < MEMORY
    assert COUNT / 10 < found["refused"] < COUNT * 0.9


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, lambda number, frame: (_ for _ in ()).throw(TimeoutError(f"{SECONDS} s")))
    print(json.dumps(fuzz(int(sys.argv[1]))))
