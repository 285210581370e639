#!/usr/bin/env bash
# Pillow 12.3.0 scrambles an uncompressed TIFF with Orientation (tag 274) 5 to 8 that is opened by its path: the file is mapped
# into memory with the sides of the turned picture and then turned once more, so that rows of another length are read.
# Opened as a file object, or compressed by LZW, the same picture comes out upright. No error and no warning; a
# square picture comes out right either way, so tests with square pictures pass. Open TIFFs as file objects.
# Seen: stored [[0, 1, 2], [3, 4, 5]], orientation 6: by path [[4, 2, 0], [5, 3, 1]], as file object
# [[3, 0], [4, 1], [5, 2]], which is right.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" - <<'PY'
import sys
import numpy as np
import PIL
from PIL import Image

stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
picture = Image.fromarray(stored)
exif = picture.getexif()
exif[274] = 6  # the first row of what is stored is the right side of what is seen
picture.save("raw.tif", exif=exif)
picture.save("lzw.tif", exif=exif, compression="tiff_lzw")
seen = {}
for name in ("raw.tif", "lzw.tif"):
    by_path = Image.open(name)
    promised = by_path.size[::-1]
    by_path.load()
    with open(name, "rb") as file:
        as_file = np.array(Image.open(file))
    seen[name] = (promised, np.array(by_path).tolist(), as_file.tolist())
print("Pillow", PIL.__version__)
for name, (promised, by_path, as_file) in seen.items():
    print(name, "promises", promised, "by path", by_path, "as file object", as_file)
turned = np.rot90(stored, -1).tolist()
scrambled = np.rot90(stored.reshape(3, 2), -1).tolist()
expected = {"raw.tif": ((3, 2), scrambled, turned), "lzw.tif": ((3, 2), turned, turned)}
sys.exit(seen != expected)
PY
