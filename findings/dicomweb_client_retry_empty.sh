#!/usr/bin/env bash
# dicomweb-client 0.61.2: store_instances sends a message above chunk_size (1 MB: any CT slice of 724 x 724 or two of
# 512 x 512) in chunks, from a generator that can be read once. Where the archive answers 503 (busy), the same request is
# tried again by default, with the generator used up: the second message is EMPTY. An archive that answers 200 to it makes
# store_instances return as after a success, without any reference to a stored instance. Smaller messages are sent whole.
# Remedy: client.set_http_retry_params(retry=False) for STOW, and look for each UID in ReferencedSOPSequence of the answer.
# Seen: bytes of both messages: [8949, 8949] for 64 x 64 pixels, [2097909, 0] for 1024 x 1024; both calls return.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    dicomweb-client==0.61.2 pydicom==3.0.2 numpy==2.2.6 2>/dev/null
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PY'
import http.server
import sys
import threading

from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

sizes = []


class Busy(http.server.BaseHTTPRequestHandler):
    """Answers 503 to the first message and 200 to the next, and counts the bytes of each."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        size = 0
        if self.headers.get("Content-Length"):
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            while chunk := int(self.rfile.readline().strip() or b"0", 16):
                size += len(self.rfile.read(chunk))
                self.rfile.readline()
            self.rfile.readline()
        sizes.append(size)
        self.send_response(503 if len(sizes) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


def image(side):
    d, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    d.file_meta, d.preamble = meta, bytes(128)
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.StudyInstanceUID, d.SeriesInstanceUID, d.PatientID, d.Modality = generate_uid(), generate_uid(), "P", "MR"
    d.Rows = d.Columns = side
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit = 15
    d.PixelData = bytes(2 * side * side)
    d["PixelData"].VR = "OW"
    return d


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for side in (64, 1024):
    sizes.clear()
    client = DICOMwebClient(f"http://127.0.0.1:{server.server_port}")
    client.set_http_retry_params(wait_exponential_multiplier=1)
    answer = client.store_instances([image(side)])
    seen[side] = [*sizes, len(answer)]
print("bytes of the first and second message, elements of the answer, by side of the image", seen)
small, large = seen[64], seen[1024]
sys.exit(not (small[0] == small[1] > 8000 and large[0] > 2_000_000 and large[1:] == [0, 0]))
PY
