"""NiiVue's ready program, read from the package that ships it; nothing of it is part of this project."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

PACKAGE, TESTED = "nilearn", "0.14.1"
_FILE = "nilearn/_assets/js/niivue.umd.js"
_SHA256 = "c40dc2679c337c906deef22e157ee02c17459db9b8ecc51aa773af27791a567c"
REMEDY = "pip install --no-deps nilearn==0.14.1"


def niivue_script() -> tuple[str, str]:
    """Return NiiVue (BSD-2-Clause), and what there is to be told about it.

    Only the very file that was tested is taken, because it goes into a page with images of patients.

    Returns:
        The program, "" where it is not installed or is another one; the reason, or which one it is.

    Example:
        >>> isinstance(niivue_script()[1], str)
        True
    """
    try:
        distribution = metadata.distribution(PACKAGE)
        path = Path(str(distribution.locate_file(_FILE)))
        program = path.read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        return "", f"no 3D view: NiiVue is not installed ({REMEDY})"
    if hashlib.sha256(program).hexdigest() != _SHA256:
        return "", f"no 3D view: {PACKAGE} {distribution.version} holds another NiiVue than {TESTED} ({REMEDY})"
    return program.decode("utf-8"), f"NiiVue of {PACKAGE} {distribution.version}"
