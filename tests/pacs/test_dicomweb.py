"""What is refused before anything is asked of an archive, and wrong arguments; no archive is needed."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.io.dicom import dicomweb
from clinicalfmamba_nets.io.dicom.dicomweb import Archive, RemoteSeries, check_uid, listing_digest
from clinicalfmamba_nets.io.dicom.web_session import parse_headers


@pytest.mark.parametrize("uid", ["", "1.2/../3", "1.2.3?x=1", "1..2", ".1", "1.2 3", "a.b", "1." + "2" * 70, "1.2\n"])
def test_what_is_no_uid_becomes_no_part_of_a_url(uid):
    with pytest.raises(FusionInputError, match="expected a UID"):
        check_uid(uid)


@pytest.mark.parametrize("line", ["Authorization", "Bad name: x", "X-Key: a\x07b", ": x"])
def test_a_bad_header_is_told_without_its_value(line):
    with pytest.raises(FusionInputError, match="header 2: expected NAME: VALUE") as caught:
        parse_headers(["Accept: x", line])
    assert "Bad" not in str(caught.value) and "\x07" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://reader:word41@pacs.example/dicom-web", "a URL without a password"),
        ("https://pacs.example/dicom-web?token=word41", "the URL of a DICOMweb service"),
        ("https://pacs.example/dicom-web#word41", "the URL of a DICOMweb service"),
        ("file:///etc/passwd", "the URL of a DICOMweb service"),
        ("pacs.example/dicom-web", "the URL of a DICOMweb service"),
        ("", "the URL of a DICOMweb service"),
        ("http://[::1/dicom-web", "the URL of a DICOMweb service"),
        ("http://pacs:word41/dicom-web", "the URL of a DICOMweb service"),
        ("http://pacs:99999/dicom-web", "the URL of a DICOMweb service"),
        ("http://pacs one/dicom-web", "the URL of a DICOMweb service"),
    ],
)
def test_urls_that_are_refused_are_told_without_secrets(url, told):
    with pytest.raises(FusionInputError, match=told) as caught:
        Archive(url)
    assert "word41" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_password_over_plain_http_is_warned_of():
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install dicomweb-client")
    headers = {"Authorization": "Bearer word41"}
    warned = Archive("http://pacs.example:8042/dicom-web", headers).warning
    assert "pacs.example:8042: http sends the password" in warned and "word41" not in warned
    assert not Archive("https://pacs.example/dicom-web", headers).warning
    assert not Archive("http://localhost:8042/dicom-web", headers).warning


def test_without_the_client_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dicomweb_client.web", None)
    with pytest.raises(FusionInputError, match=r"pip install 'clinicalfmamba-nets\[dicomweb\]'"):
        Archive("https://pacs.example/dicom-web")


def test_a_listing_changes_with_any_image_and_not_with_the_order():
    one, two = RemoteSeries("1.2", "MR", "", ("1.2.1", "1.2.2")), RemoteSeries("1.3", "CT", "", ("1.3.1",))
    fewer = RemoteSeries("1.2", "MR", "", ("1.2.1",))
    assert listing_digest([one, two]) == listing_digest([two, one])
    assert len({listing_digest(found) for found in ([one, two], [one], [fewer, two], [])}) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dicomweb", "http://a/b"), "--study UID"),
        (("--study", "1.2.3"), "expected one of"),
        (("a.nii", "b.nii", "--study", "1.2.3"), "--dicomweb URL with --study"),
        (("a.nii", "b.nii", "--store"), "--dicomweb URL with --store"),
        (("a.nii", "b.nii", "--dicomweb", "http://a/b", "--study", "1.2"), "expected one of"),
        (("--dicomweb", "http://a/b", "--study", "1.2", "--store", "--format", "nifti"), "--format dicom"),
        (("--dicomweb", "http://a/b", "--study", "1.2", "--series", "CT"), "--series twice"),
    ],
)
def test_wrong_arguments(run_cli, tmp_path, words, told):
    done = run_cli("fuse", *words, "-o", tmp_path / "out")
    assert done.code == 2 and told in done.cause and not (tmp_path / "out").exists()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install dicomweb-client")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: no certificate can be made")
    asked, key, certificate = [], tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run([*made, *names], check=True, capture_output=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}/dicom-web"
    try:
        with pytest.raises(FusionInputError, match="a certificate that can be verified.*REQUESTS_CA_BUNDLE"):
            Archive(url, {"Authorization": "Bearer word41"}).series("1.2.3")
        assert not asked, "nothing was sent"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(FusionInputError, match="HTTP 404"):
            Archive(url).series("1.2.3")
        assert len(asked) == 1
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("limit", "told"), [("taken", "at most 0.5 GiB of images"), ("disk", "GiB free on the disk")])
def test_the_place_on_the_disk_is_bounded(tmp_path, monkeypatch, limit, told):
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install dicomweb-client")
    archive = Archive("https://pacs.example/dicom-web")
    series = RemoteSeries("1.2", "MR", "", ("1.2.1", "1.2.2"))
    if limit == "disk":
        monkeypatch.setattr(dicomweb, "_SPARE", 2**62)
    else:
        (tmp_path / "1.2").mkdir()
        with open(tmp_path / "1.2" / "1.2.1.dcm", "wb") as file:
            file.truncate(2**29 + 1)
    with pytest.raises(FusionInputError, match=told):
        archive.fetch("1.1", [series], tmp_path, most=2**29)


class Service:
    """A DICOMweb service of two objects, which keeps what is sent to it and can answer otherwise.

    Args:
        files: what it holds.
    """

    def __init__(self, files):
        self.objects = {str(pydicom.dcmread(file).SOPInstanceUID): file.read_bytes() for file in files}
        self.asked: list[str] = []
        self.most, self.counted, self.refuses = 100, True, lambda method, number: 0
        self.answer = ("application/dicom+json", True)
        self.url, self.description = "", ""

    def rows(self, path):
        """The rows of a search, as many as one answer holds, from where it begins."""
        count = {"00201209": len(self.objects)} if self.counted else {}
        known = {"00080060": "MR", "0008103E": self.description, **count}
        series = [{"0020000E": uid, **known} for uid in ("1.2.8", "1.2.9")]
        named = series if path.endswith("/series") else [{"00080018": uid} for uid in sorted(self.objects)]
        begin = int(parse_qs(urlsplit(self.asked[-1]).query).get("offset", ["0"])[0])
        some = named[begin : begin + self.most]
        return [{tag: {"vr": "UI", "Value": [value]} for tag, value in row.items()} for row in some]

    def told(self, method, path):
        """Type and content of the answer to a question."""
        if method == "POST":
            named = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in self.objects]
            stored = {"00081199": {"vr": "SQ", "Value": named}}
            return self.answer[0], json.dumps(stored).encode() if self.answer[1] else b""
        if "/instances/" not in path:
            return "application/dicom+json", json.dumps(self.rows(path)).encode()
        content = self.objects[path.rpartition("/")[2]]
        body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--x--"
        return 'multipart/related; type="application/dicom"; boundary=x', body


@pytest.fixture
def service(head_study, serving):
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is not installed: pip install dicomweb-client")
    state = Service(sorted(head_study(slices=1).iterdir()))

    def answer(self):
        if self.command == "POST":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        state.asked.append(f"{self.command} {self.path}")
        number = sum(one.startswith(self.command) for one in state.asked)
        code = state.refuses(self.command, number)
        kind, content = state.told(self.command, urlsplit(self.path).path)
        self.send_response(code or 200)
        if kind:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(b"" if code else content)

    with serving(answer) as state.url:
        yield state


@pytest.mark.parametrize("counted", [True, False])
def test_a_list_that_comes_in_parts_is_whole(service, counted):
    """An archive that gives one row at a time made the choice among one series, and of images not counted, one."""
    service.most, service.counted = 1, counted
    found = Archive(service.url).series("1.2.3")
    assert [series.uid for series in found] == ["1.2.8", "1.2.9"]
    assert all(len(series.instances) == 2 for series in found)


@pytest.mark.parametrize(
    "answer", [("application/dicom+json", False), ("application/dicom+json; charset=utf-8", True), ("", True)]
)
def test_an_answer_that_names_nothing_is_no_refusal(service, tmp_path, answer):
    """dicomweb-client 0.61.2 reads no answer whose type has a charset: all was told to be refused, and lay there."""
    service.answer = answer
    files = sorted((tmp_path / "study").iterdir())
    assert len(Archive(service.url).store("1.2.3", files)) == 2
    assert sum("/instances/" in one for one in service.asked) == 2, "each was read back"
    service.objects = dict.fromkeys(service.objects, files[0].read_bytes())
    with pytest.raises(FusionInputError, match="expected the object as it was sent, found another one"):
        Archive(service.url).store("1.2.3", files)


def test_what_was_stored_before_a_fault_is_told(service, tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "_BATCH", 1)
    service.refuses = lambda method, number: 500 if (method, number) == ("POST", 2) else 0
    files = sorted((tmp_path / "study").iterdir())
    with pytest.raises(FusionInputError, match=r"HTTP 500; .* \(1 of 2 objects were stored, the same line again"):
        Archive(service.url).store("1.2.3", files)
    service.refuses = lambda method, number: 500
    with pytest.raises(FusionInputError, match=r"HTTP 500; try again later$"):
        Archive(service.url).store("1.2.3", files)


def test_a_busy_archive_is_asked_again_after_something_was_sent(service, tmp_path):
    service.refuses = lambda method, number: 503 if (method, number) == ("GET", 1) else 0
    assert len(Archive(service.url).store("1.2.3", sorted((tmp_path / "study").iterdir()))) == 2
    assert [one.split()[0] for one in service.asked] == ["POST", "GET", "GET", "GET"]


def test_a_page_where_a_list_was_asked_for(service, monkeypatch):
    monkeypatch.setattr(service, "told", lambda method, path: ("text/html", b"<html>Log in</html>"))
    with pytest.raises(FusionInputError, match="found one that is no JSON; check the URL, and whether it"):
        Archive(service.url).series("1.2.3")


@pytest.mark.parametrize(
    ("description", "found"),
    [("Not for diagnostic use: fused MR+CT", 0), ("Not for diagnostic use - CT AC", 2), ("T2 axial", 2)],
)
def test_fused_series_alone_are_left_out(service, description, found):
    """Scanners write the notice too, as for the CT of a PET: such a series was not there for the choice."""
    service.description = description
    assert len(Archive(service.url).series("1.2.3")) == found
