"""The connection to a DICOMweb archive: TLS verified, no redirects, secrets kept, and each fault told in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from clinicalfmamba_nets.errors import FusionInputError, input_error
from clinicalfmamba_nets.io.files import printable

HEADERS_VARIABLE = "CLINICALFMAMBA_DICOMWEB_HEADERS"
TIMEOUT = (10.0, 120.0)  # seconds to be connected, and between two pieces of an answer
_TRIES, _PAUSE = 3, 100  # tries of a question, ms before the second
_HALVES = ("IncompleteRead", "RemoteDisconnected", "Connection broken", "reset")
_REMEDIES = {
    401: f"give a password or token by {HEADERS_VARIABLE}",
    403: "ask for the right to this study",
    404: "check the URL and the UID",
    409: "ask who runs the archive",
    413: "ask who runs the archive to take larger messages",
}


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Read headers as a user gives them; a bad one is told without its value.

    Args:
        lines: such as "Authorization: Bearer abc".

    Raises:
        FusionInputError: a line that is no header.

    Example:
        >>> parse_headers(["Authorization: Bearer abc", ""])
        {'Authorization': 'Bearer abc'}
    """
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, mark, value = line.partition(":")
        if not mark or not re.fullmatch(r"[A-Za-z0-9-]+", name.strip()) or not value.strip().isprintable():
            remedy = "write it as Authorization: Bearer ..."
            raise input_error(f"header {number}", "NAME: VALUE", "something else", remedy)
        found[name.strip()] = value.strip()
    return found


def open_client(url: str, headers: Mapping[str, str]) -> Any:
    """Return a client of dicomweb-client.

    Raises:
        FusionInputError: no URL of a service, or the package is not installed.
    """
    parts = _parts(url)
    shown = printable(f"{parts.scheme}://{parts.hostname or ''}{parts.path}") if parts else "of no host or port"
    hosted = parts is not None and parts.scheme in ("http", "https") and parts.hostname
    if parts is None or not hosted or parts.query or parts.fragment:
        remedy = "name it as https://pacs.example/dicom-web"
        raise input_error(f"--dicomweb {shown}", "the URL of a DICOMweb service", "something else", remedy)
    if parts.username or parts.password:
        remedy = f"take it out and give it by {HEADERS_VARIABLE}"
        raise input_error(f"--dicomweb {shown}", "a URL without a password", "one with it", remedy)
    try:
        from dicomweb_client.web import DICOMwebClient
    except ImportError:
        remedy = "run `pip install 'clinicalfmamba-nets[dicomweb]'`"
        raise FusionInputError(f"DICOMweb: expected the package dicomweb-client, found none; {remedy}") from None
    client = DICOMwebClient(url, _session(headers), timeout=TIMEOUT)
    _ask_again(client)
    return client


def _ask_again(client: Any) -> None:
    """Let a client put a question again that a busy archive has not answered."""
    client.set_http_retry_params(max_attempts=_TRIES, wait_exponential_multiplier=_PAUSE)


@contextlib.contextmanager
def sent_once(client: Any) -> Iterator[None]:
    """Let a client send what it sends once: a second try would send what is left of a generator."""
    client.set_http_retry_params(retry=False)
    try:
        yield
    finally:
        _ask_again(client)


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL, None where host or port cannot be any."""
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 or any(char.isspace() for char in parts.netloc) else parts
    except ValueError:  # a bracket without its other one, a port that is no number or above 65535
        return None


def _session(headers: Mapping[str, str]) -> Any:
    """Return a session that sends headers to this service alone: a redirect could lead them elsewhere."""
    import requests

    class Session(requests.Session):
        def request(self, method: Any, url: Any, *arguments: Any, **settings: Any) -> Any:
            settings["allow_redirects"] = False
            given = settings.get("headers") or {}
            given.pop("Host", None)  # dicomweb-client leaves the port out
            answer = super().request(method, url, *arguments, **settings)
            answer.headers.setdefault("Content-Type", "")  # dicomweb-client asks for it unseen
            if answer.is_redirect:
                answer.close()
                raise requests.TooManyRedirects("redirect", response=answer)
            return answer

    session = Session()
    session.headers.update(headers)
    return session


@contextlib.contextmanager
def answers_told(name: str, what: str, sending: bool = False) -> Iterator[None]:
    """Turn faults of a connection, and answers that cannot be read, into errors of one line without any header.

    Args:
        name: of the archive.
        what: was asked for or sent.
        sending: whether something is sent.

    Raises:
        FusionInputError: the fault, with what to do.
    """
    import requests
    from retrying import RetryError

    where = f"{name}: {what}"
    expected = "an answer that it is stored" if sending else "a whole answer"
    try:
        yield
    except FusionInputError:
        raise
    except requests.exceptions.SSLError:
        remedy = "name the file of its authority by REQUESTS_CA_BUNDLE"
        raise input_error(where, "a certificate that can be verified", "another one", remedy) from None
    except requests.exceptions.ProxyError:
        raise input_error(where, expected, "a proxy that does not answer", "check HTTPS_PROXY") from None
    except requests.exceptions.Timeout:
        raise input_error(where, expected, "none in time", "try again, or ask who runs the archive") from None
    except requests.exceptions.TooManyRedirects:
        raise input_error(where, expected, "a redirect to another place", "name the final URL by --dicomweb") from None
    except requests.exceptions.HTTPError as error:
        raise _refusal(where, expected, error.response) from None
    except RetryError as error:
        raise _refusal(where, expected, error.last_attempt.value) from None
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        raise input_error(where, expected, "half of one", "run it again") from None
    except requests.exceptions.ConnectionError as error:
        half = any(word in str(error) for word in _HALVES)
        found = "half of one" if half else "none"
        remedy = "run it again" if half else "check the URL, and whether the archive runs"
        raise input_error(where, expected, found, remedy) from None
    except requests.exceptions.JSONDecodeError:
        remedy = "check the URL, and whether it asks for a login first"
        raise input_error(where, expected, "one that is no JSON", remedy) from None
    except requests.exceptions.RequestException as error:
        raise input_error(where, expected, type(error).__name__, "check the URL") from None
    except OSError:
        raise  # of the disk
    except Exception as error:  # what dicomweb-client and pydicom raise on answers that are no JSON or no DICOM
        found = f"one that cannot be read ({type(error).__name__})"
        raise input_error(where, expected, found, "run it again, or ask who runs the archive") from error


def _refusal(where: str, expected: str, answer: Any) -> FusionInputError:
    code = int(getattr(answer, "status_code", 0) or 0)
    remedy = _REMEDIES.get(code, "try again later" if code >= 500 or code == 429 else "ask who runs the archive")
    return input_error(where, expected, f"HTTP {code}", remedy)
