"""The page of a run: one HTML file that holds its images and all that shows them, and asks no network for anything."""

from __future__ import annotations

import base64
import html
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalfmamba_nets.engine.pictures.niivue import niivue_script
from clinicalfmamba_nets.engine.pictures.page_layers import Layer
from clinicalfmamba_nets.io.dicom.colour import PALETTES, palette_table
from clinicalfmamba_nets.io.files import atomic_file

_VIEWER = Path(__file__).with_name("viewer")
SCRIPTS = ("unpack", "colors", "slices", "panes", "texts", "controls", "volume", "main")
LARGEST = 200 * 2**20  # bytes of one page; cases beyond it go to a next one
_BLOCK = 3 * 2**20  # a multiple of 3: base64 of blocks is that of the whole


@dataclass
class PageCase:
    """One case of a page.

    Attributes:
        facts: what is told of it: `name`, `status`, `labels`, `shape`, `spacing` and so on, plain values.
        layers: its images; none for a case that cannot be shown.
    """

    facts: dict[str, Any]
    layers: list[Layer] = field(default_factory=list)


def write_pages(path: Path, cases: Iterable[PageCase], facts: Mapping[str, Any], largest: int = LARGEST) -> list[Path]:
    """Write the page of a run, whole or not at all; cases that are too much for one file go to further ones beside it.

    Further files of an earlier, longer page are removed.

    Args:
        path: the HTML file.
        cases: what is shown; each is taken, packed and forgotten before the next one.
        facts: of the run: `version`, `notice` and what else is told.
        largest: bytes of one file, more for a single large case.

    Returns:
        The files that were written: `path`, then `<stem>_2.html` and so on.
    """
    with tempfile.TemporaryDirectory() as folder:
        held = [_kept(case, Path(folder, f"{number}.txt")) for number, case in enumerate(cases)]
        parts = _parts([size for _, size, _ in held], largest)
        names = [
            path if part == 0 else path.with_name(f"{path.stem}_{part + 1}.html") for part in range(max(parts) + 1)
        ]
        index = [told | {"file": names[part].name} for (told, _, _), part in zip(held, parts, strict=True)]
        common = _common(facts, any(map(_is_volume, index)))
        for part, name in enumerate(names):
            texts = [file for (_, _, file), own in zip(held, parts, strict=True) if own == part]
            with atomic_file(name) as partial, open(partial, "w", encoding="utf-8") as page:
                for piece in _pieces(common, index, name.name, texts):
                    page.write(piece)
    _remove_further(path, len(names) + 1)
    return names


def _remove_further(path: Path, number: int) -> None:
    """Remove the further files that a longer page had here before: nothing leads to them, and they may hold names."""
    start = (_VIEWER / "page.html").read_text(encoding="utf-8").partition("<style>")[0].encode()
    while True:
        file = path.with_name(f"{path.stem}_{number}.html")
        if file.is_symlink() or not file.is_file():
            return
        with open(file, "rb") as page:
            own = page.read(len(start)) == start
        if not own:
            return
        file.unlink()
        number += 1


def _is_volume(told: Mapping[str, Any]) -> bool:
    return bool(told.get("sided")) and min(told["shape"]) > 1


def _kept(case: PageCase, file: Path) -> tuple[dict[str, Any], int, Path]:
    """Put the images of a case into a file as they will stand in the page; return its facts and the size."""
    own = f"case-{file.stem}"
    with open(file, "w", encoding="ascii") as kept:
        for layer in case.layers:
            kept.write(f'<script type="text/plain" id="{own}-{layer.name}">')
            for start in range(0, len(layer.data), _BLOCK):
                kept.write(base64.b64encode(layer.data[start : start + _BLOCK]).decode())
            kept.write("</script>\n")
    layers = {layer.name: layer.facts for layer in case.layers}
    return case.facts | {"id": own, "layers": layers}, file.stat().st_size, file


def _parts(sizes: Sequence[int], largest: int) -> list[int]:
    """Number the files that cases of these sizes go to, in order."""
    parts, used = [0] if not sizes else [], 0
    for size in sizes:
        part, used = (parts[-1], used) if parts else (0, used)
        if used and used + size > largest:
            part, used = part + 1, 0
        parts.append(part)
        used += size
    return parts


def _common(facts: Mapping[str, Any], volumes: bool) -> dict[str, Any]:
    """Return what all files of a page share."""
    script, told = niivue_script() if volumes else ("", "")
    tables = {name: base64.b64encode(palette_table(name).tobytes()).decode() for name in PALETTES}
    return {"run": dict(facts) | {"niivue": told}, "palettes": tables, "niivue": script}


def _pieces(common: Mapping[str, Any], index: list[dict], own: str, texts: Sequence[Path]) -> Iterator[str]:
    """Return the page piece by piece."""
    head, middle, end = (_VIEWER / "page.html").read_text(encoding="utf-8").split("<!-- here -->\n")
    style = (_VIEWER / "style.css").read_text(encoding="utf-8")
    yield head.replace("/* style */", style)
    for told in index:
        if not told["layers"]:  # for whoever reads the page without running it
            words = ": ".join(str(told[key]) for key in ("name", "status", "error") if told.get(key))
            yield f"<noscript><p>{html.escape(words)}</p></noscript>\n"
    for text in texts:
        yield text.read_text(encoding="ascii")
    told = {"run": common["run"], "palettes": common["palettes"], "cases": index, "own": own}
    yield f'<script type="application/json" id="facts">{json_text(told)}</script>\n'
    yield middle
    if common["niivue"]:
        yield f'<script type="text/plain" id="program-3d">{inline_text(common["niivue"])}</script>\n'
    for script_name in SCRIPTS:
        script = (_VIEWER / f"{script_name}.js").read_text(encoding="utf-8")
        yield f"<script>\n{inline_text(script)}\n</script>\n"
    yield end


def json_text(content: Any) -> str:
    """Return JSON that may stand in a script element: nothing in it ends the element.

    Example:
        >>> json_text({"name": "</script>"})
        '{"name": "\\\\u003c/script>"}'
    """
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def inline_text(script: str) -> str:
    """Return a program that may stand in a script element."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
