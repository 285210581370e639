"""Write the pages of the reference that the code itself tells: command line, settings, metrics, Python.

`python docs/generate.py` writes them into docs/generated; `make docs` does so before it builds the site.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ("fusion_2d", "fusion_3d", "glioma_grading")
CONFIGS = {
    "inference": "Fuse, or grade",
    "train": "Train",
    "train_fusion": "Train the fusion network of a grading",
    "evaluate": "Evaluate (laid over inference)",
    "experiment": "Train and evaluate all inputs",
}
PACKAGES = {
    "nets": "Networks",
    "losses": "Losses",
    "metrics": "Metrics",
    "transforms": "Transforms",
    "data": "Data",
    "io": "Files",
    "io.dicom": "DICOM",
    "spatial": "Space",
    "ops": "Selective scan",
    "engine": "Parts of the bundles",
}
GENERATED = "<!-- Written by docs/generate.py; change the code that it shows. -->\n\n"


def write_pages(folder: Path) -> list[Path]:
    """Write all generated pages.

    Args:
        folder: where they are to lie; made where it is missing.

    Returns:
        The files.
    """
    pages = {
        "command_line.md": command_line(),
        "settings.md": settings(),
        "metrics.md": metrics(),
        "python.md": python_index(),
        **{f"python_{name.replace('.', '_')}.md": python_page(name, title) for name, title in PACKAGES.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(GENERATED + text, encoding="utf-8")
    return [folder / name for name in pages]


def command_line() -> str:
    """The help of every command."""
    from clinicalfmamba_nets.cli.arguments import PARSERS, overview

    parts = ["# Command line", f"```text\n{overview()}\n```"]
    for name, (make, words) in PARSERS.items():
        parser = make()
        parser.formatter_class = partial(type(parser._get_formatter()), width=100)
        parts.append(f"## {name}\n\n{words[0].upper()}{words[1:]}.\n\n```text\n{parser.format_help().strip()}\n```")
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """The settings of each configuration of each bundle: default, what is accepted, meaning."""
    words = json.loads((ROOT / "docs" / "reference" / "settings.json").read_text(encoding="utf-8"))
    parts = [
        "# Settings of the bundles",
        "Every name below is given as `NAME=VALUE` to `clinicalfmamba train` and `evaluate`, as `--NAME VALUE` to "
        "`python -m monai.bundle run`, and as `overrides` to `clinicalfmamba_nets.engine.run.workflows.run_bundle`. A "
        "wrong name or value ends the run before it begins and names the nearest right one. Every other id of the "
        "JSON can be changed too (`train::trainer::amp`), at your own risk.",
    ]
    for bundle in BUNDLES:
        parts.append(f"## {bundle}")
        for name, title in CONFIGS.items():
            rows = knobs(bundle, name)
            if rows:
                parts.append(f"### {title}: `{bundle}/configs/{name}.json`\n\n{_table(rows, words)}")
    return "\n\n".join(parts) + "\n"


def knobs(bundle: str, config: str) -> dict[str, Any]:
    """The settings of a configuration: its plain ids, without parts that are built and without programs.

    Args:
        bundle: name of the bundle.
        config: name of the configuration, without ".json".

    Returns:
        Name -> default; empty where the bundle has no such configuration.
    """
    file = ROOT / "bundles" / bundle / "configs" / f"{config}.json"
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    hidden = json.loads((ROOT / "docs" / "reference" / "settings.json").read_text(encoding="utf-8"))["_parts"]
    return {name: value for name, value in content.items() if name not in hidden and not _is_part(value)}


def _is_part(value: Any) -> bool:
    """Whether a value is a component, a list of them or a program."""
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, dict) for part in parts) or (isinstance(value, list) and "$" in str(value))


def _table(rows: dict[str, Any], words: dict[str, str]) -> str:
    lines = ["| setting | default | accepted | meaning |", "|---|---|---|---|"]
    for name, default in rows.items():
        shown = "computed" if str(default).startswith("$") else json.dumps(default)
        shown = f"`{default[1:]}`" if str(default).startswith("@") else shown if shown == "computed" else f"`{shown}`"
        lines.append(f"| `{name}` | {shown} | {accepted(name, default)} | {words[name]} |")
    return "\n".join(lines)


def accepted(name: str, default: Any) -> str:
    """What a setting may be, in words."""
    from clinicalfmamba_nets.engine.run.overrides import _kind
    from clinicalfmamba_nets.engine.run.settings import RULES

    if name == "patch_size":
        return "a whole number of at least 8 for each axis"
    rule = RULES.get(name)
    return rule.expected if rule else (_kind(default) or "a text") if not str(default).startswith("$") else "a text"


def metrics() -> str:
    """The table of metrics, with the definition of each by its docstring."""
    from clinicalfmamba_nets.metrics import ALL_METRICS, CT_METRICS, LOWER_IS_BETTER, WITHOUT_DIRECTION
    from clinicalfmamba_nets.metrics.registry import PER_SOURCE

    lines = [
        "# Metrics",
        "Every metric takes `(fused, image_a, image_b)`; `PSNR` and the like are the mean over both sources. "
        "`score`, `evaluate` and `metrics.compute_all` use these names. Read [](../explanation/metrics.md) before "
        "you compare numbers. Full definitions: [](python_metrics.md).",
        "| name | what it is | better | both sources apart |\n|---|---|---|---|",
    ]
    for name, function in ALL_METRICS.items():
        better = "no direction" if name in WITHOUT_DIRECTION else "lower" if name in LOWER_IS_BETTER else "higher"
        plain = function.func if isinstance(function, partial) else function
        more = ", ".join(f"{key} {value}" for key, value in getattr(function, "keywords", {}).items())
        said = _sentence(plain) + (f" ({more})" if more else "") + (" For CT." if name in CT_METRICS else "")
        lines[-1] += f"\n| `{name}` | {said} | {better} | {'yes' if name in PER_SOURCE else 'no'} |"
    return "\n\n".join(lines) + "\n"


def _sentence(thing: Any) -> str:
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def python_index() -> str:
    """The list of the Python pages, and what the package offers at its top."""
    names = "\n".join(f"python_{name.replace('.', '_')}" for name in PACKAGES)
    top = "".join(f".. autofunction:: clinicalfmamba_nets.{name}\n" for name in ("fuse",))
    top += ".. autoclass:: clinicalfmamba_nets.Fuser\n   :members:\n"
    listed = f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```"
    return f"# Python\n\nMade from the docstrings.\n\n```{{eval-rst}}\n{top}```\n\n{listed}\n"


def python_page(name: str, title: str) -> str:
    """Everything that a subpackage offers."""
    module = import_module(f"clinicalfmamba_nets.{name}")
    body = "".join(_directive(f"clinicalfmamba_nets.{name}.{item}", getattr(module, item)) for item in _names(module))
    return f"# {title}: `{name}`\n\n{_sentence(module)}\n\n```{{eval-rst}}\n{body}```\n"


def _names(module: Any) -> Iterable[str]:
    return [name for name in module.__all__ if callable(getattr(module, name)) and name != "PathLike"]


def _directive(name: str, thing: Any) -> str:
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    return f".. {kind}:: {name}\n" + ("   :members:\n" if kind == "autoclass" else "")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print("\n".join(str(path) for path in write_pages(ROOT / "docs" / "generated")))
