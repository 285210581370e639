"""Configuration of the documentation: `make docs` builds it with Sphinx, offline."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import generate  # noqa: E402

from clinicalfmamba_nets import __version__  # noqa: E402

generate.write_pages(HERE / "generated")

project = "ClinicalFMamba for MONAI"
author = "The ClinicalFMamba for MONAI authors"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "requirements.txt"]
html_theme = "furo"
html_title = f"ClinicalFMamba {version}"
html_show_sourcelink = False
html_copy_source = False
default_role = "code"  # docstrings write code between single backticks

# Pages are Markdown (MyST); headings are targets of links. The notebook is run, and a cell that fails ends the build.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# The Python pages show what the docstrings say, types by the signature alone.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def keep_marks(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Show the star of shapes such as (2, *spatial), and |x|: reStructuredText takes both for marks of its own."""
    marks = re.compile(r"(?<![*\w`\\])\*(?=[a-zA-Z])|(?<!\\)\|")
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else marks.sub(r"\\\g<0>", line) for line in lines]


def setup(app: Any) -> None:
    """Register what Sphinx is to call."""
    app.connect("autodoc-process-docstring", keep_marks)
