#!/usr/bin/env bash
# ITK 5.4.7 (as SimpleITK 2.5.7 has it) reads the Modality of a MetaImage into its dictionary, and leaves that entry, and no
# other, out when it writes the image: a field that nobody knows ("Station") survives a copy, MET_MOD_CT does not, even
# where it is set again by SetMetaData. Whatever a tool chooses by modality (a CT window, which image is the anatomical
# one) goes back to guessing after one pass through any ITK program, without a warning.
# Seen: read {'Modality': 'MET_MOD_CT', 'Station': 'S7'}, written ['Station'].
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" - <<'PY'
import sys
import SimpleITK as sitk

head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nModality = MET_MOD_CT\n"
head += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 4 4 4\nStation = S7\n"
head += "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
with open("ct.mha", "wb") as file:
    file.write(head.encode() + bytes(128))
image = sitk.ReadImage("ct.mha")
read = {key: image.GetMetaData(key) for key in ("Modality", "Station") if image.HasMetaDataKey(key)}
image.SetMetaData("Modality", "MET_MOD_CT")
sitk.WriteImage(image, "copy.mha")
fields = open("copy.mha", "rb").read()[:-128].decode()
written = [key for key in ("Modality", "Station") if f"{key} =" in fields]
print("SimpleITK", sitk.Version_VersionString(), "read", read, "written", written)
sys.exit(read != {"Modality": "MET_MOD_CT", "Station": "S7"} or written != ["Station"])
PY
