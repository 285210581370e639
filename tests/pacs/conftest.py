"""A real Orthanc with its DICOMweb plugin, started and stopped by the tests, and a door before it that misbehaves."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
HOP = ("transfer-encoding", "accept-encoding")  # of one connection, and what would compress an answer
LOGIN = base64.b64encode(b"reader:secret-word-41").decode()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Orthanc:
    """A running archive."""

    port: int
    header: str = f"Authorization: Basic {LOGIN}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None):
        """Talk to Orthanc's own interface."""
        headers = {"Authorization": f"Basic {LOGIN}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content

    def add(self, folder: Path) -> None:
        """Put the files of a folder into the archive."""
        for file in sorted(folder.rglob("*.dcm")):
            self.ask("/instances", file.read_bytes())

    def count(self) -> int:
        """Number of objects in the archive."""
        return self.ask("/statistics")["CountInstances"]

    def objects(self, modality: str) -> list[bytes]:
        """The objects of all series of a modality, as files."""
        found = []
        for series in self.ask("/series"):
            told = self.ask(f"/series/{series}")
            if told["MainDicomTags"]["Modality"] == modality:
                found += [self.ask(f"/instances/{one}/file") for one in told["Instances"]]
        return found


@pytest.fixture(scope="session")
def orthanc_server(tmp_path_factory) -> Iterator[Orthanc]:
    """Orthanc on the loopback device alone, remote access refused, with a password."""
    program = shutil.which("Orthanc")
    if not program or not PLUGIN.exists():
        pytest.skip("Orthanc is not installed (Debian: apt install orthanc orthanc-dicomweb)")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": port, "DicomServerEnabled": False,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": True, "Plugins": [str(PLUGIN)],
        "RegisteredUsers": {"reader": "secret-word-41"}, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    server = Orthanc(port)
    try:
        for _ in range(300):
            try:
                server.ask("/system")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def orthanc(orthanc_server: Orthanc) -> Orthanc:
    """The archive, empty."""
    for study in orthanc_server.ask("/studies"):
        orthanc_server.ask(f"/studies/{study}", method="DELETE")
    return orthanc_server


@dataclass
class Door:
    """A place before the archive that counts what passes and can alter answers.

    Args:
        url: of the service behind it.
        asked: method and path of each request.
        alter: gets method, path, status, headers and body of an answer; returns status, headers, body and how many
            bytes are sent before the connection is closed (None for all).
    """

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    alter: Callable | None = None

    def fetched(self) -> int:
        """Number of images that were asked for."""
        return sum(method == "GET" and path.count("/instances/") == 1 for method, path in self.asked)

    def stored(self) -> int:
        """Number of messages that were sent."""
        return sum(method == "POST" for method, _ in self.asked)


@contextlib.contextmanager
def serving(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on the loopback device that gives each GET and POST to `answer`; yields the URL of its service."""

    class Handler(http.server.BaseHTTPRequestHandler):
        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    server.shutdown()
    server.server_close()


@pytest.fixture(name="serving")
def serving_fixture():
    """`serving`, for the tests."""
    return serving


@pytest.fixture
def door(orthanc: Orthanc) -> Iterator[Door]:
    """A door before Orthanc on the loopback device."""
    state = Door()

    def pass_on(self):
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length else chunks(self.rfile) if self.headers.get(
            "Transfer-Encoding") else None  # fmt: skip
        headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP}
        behind = http.client.HTTPConnection("127.0.0.1", orthanc.port, timeout=60)
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        code, told, content, sent = answer.status, dict(answer.getheaders()), answer.read(), None
        state.asked.append((self.command, self.path))
        if state.alter:
            code, told, content, sent = state.alter(self.command, self.path, code, told, content)
        self.send_response(code)
        for key, value in told.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])
        self.close_connection = sent is not None

    with serving(pass_on) as state.url:
        yield state


def chunks(stream) -> bytes:
    """The body of a message in chunks."""
    found = b""
    while size := int(stream.readline().strip() or b"0", 16):
        found += stream.read(size)
        stream.readline()
    return found
