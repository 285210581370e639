#!/usr/bin/env bash
# dicomweb-client 0.61.2: the answer to a STOW is read only where its Content-Type is exactly application/dicom+json (or
# /json, or XML). With "; charset=utf-8" behind it, which HTTP allows and frameworks add by themselves, the same body
# becomes an empty dataset without a word: an archive that has stored everything looks as if it had stored nothing, and
# whoever counts the references sends all again. An answer without a media type raises KeyError after the images are stored.
# Seen: one image stored by a server: 1 element in the answer, then 0 with the charset, then KeyError 'content-type'.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dicomweb-client==0.61.2 pydicom==3.0.2 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import http.server
import json
import sys
import threading
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset, FileMetaDataset

kind = ""


class Archive(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        while size := int(self.rfile.readline().strip() or b"0", 16):  # the message comes in chunks
            self.rfile.read(size + 2)
        self.rfile.readline()
        stored = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}}
        body = json.dumps({"00081199": {"vr": "SQ", "Value": [stored]}}).encode()
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Archive)
threading.Thread(target=server.serve_forever, daemon=True).start()
image = Dataset()
image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
image.file_meta = FileMetaDataset()
image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
seen = []
for kind in ("application/dicom+json", "application/dicom+json; charset=utf-8", ""):
    try:
        seen.append(len(DICOMwebClient(f"http://127.0.0.1:{server.server_port}").store_instances([image])))
    except KeyError as error:
        seen.append(f"KeyError {error}")
    print(repr(kind), seen[-1])
sys.exit(seen[:2] != [1, 0] or not str(seen[2]).startswith("KeyError"))
PY
