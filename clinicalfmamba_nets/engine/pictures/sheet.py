"""A sheet of pictures with words around them: no word lies on a picture's content or on another word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.engine.pictures.pair import INK, MARGIN, PAPER, font

if TYPE_CHECKING:
    from PIL.Image import Image

AMBER = (255, 176, 46)
RIM = 16  # room around a picture for the letters of its sides
LINE, SMALL, LARGE = 16, 12, 15
_BAR = 10  # height of a color bar


@dataclass
class Cell:
    """One picture of a sheet.

    Attributes:
        picture: in its final size.
        letters: directions at its left, right, top and bottom, "" for none.
        empty: words instead of a picture, for a source that does not reach here.
    """

    picture: Image
    letters: Sequence[str] = ("", "", "", "")
    empty: str = ""


@dataclass
class Row:
    """One slice in all columns.

    Attributes:
        caption: which slice it is.
        cells: one for each column.
        scale: mm of a pixel, 0 where nothing tells.
    """

    caption: str
    cells: Sequence[Cell]
    scale: float = 0.0


@dataclass
class Column:
    """What stands above and below a column.

    Attributes:
        title: what it shows.
        detail: the range that is shown, in words.
        bar: colors, (256, 3) uint8, with words for the low and the high end; None for no color bar.
    """

    title: str
    detail: str = ""
    bar: tuple[NDArray, str, str] | None = None


@dataclass
class Foot:
    """Lines below the pictures: warnings in amber, then the title."""

    title: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)


def draw_sheet(columns: Sequence[Column], rows: Sequence[Row], foot: Foot) -> Image:
    """Lay out rows of pictures.

    Args:
        columns: one for each cell of a row.
        rows: at least one.
        foot: what is below.

    Returns:
        8-bit RGB picture.

    Example:
        >>> from PIL import Image
        >>> row = Row("slice 3 of 9, S 12 mm", [Cell(Image.new("RGB", (60, 40)), "RLAP")], 1.0)
        >>> draw_sheet([Column("MR", "0 to 900")], [row], Foot("research use only")).mode
        'RGB'
    """
    from PIL import Image, ImageDraw

    least = 200 if len(columns) > 1 else 260
    width = max(max(cell.picture.width for row in rows for cell in row.cells) + 2 * RIM, least)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    details = [wrapped(probe, column.detail, width, SMALL, 3) for column in columns]
    full = len(columns) * (width + MARGIN) + MARGIN
    notes = [line for text in foot.warnings for line in wrapped(probe, text, full - 2 * MARGIN, SMALL, 3)]
    titles = wrapped(probe, foot.title, full - 2 * MARGIN, SMALL, 2)
    top = MARGIN // 2 + 20 + LINE * max(map(len, details))
    heights = [LINE + 4 + max(cell.picture.height for cell in row.cells) + 2 * RIM for row in rows]
    bars = LINE + _BAR + 8 if any(column.bar for column in columns) else 0
    height = top + sum(heights) + bars + LINE * (len(notes) + len(titles)) + MARGIN
    sheet = Image.new("RGB", (full, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (column, lines) in enumerate(zip(columns, details, strict=True)):
        middle = MARGIN + number * (width + MARGIN) + width / 2
        (title,) = wrapped(draw, column.title, width, LARGE, 1) or [""]
        draw.text((middle, MARGIN // 2 + 10), title, INK, font(LARGE), anchor="mm")
        for place, line in enumerate(lines):
            draw.text((middle, MARGIN // 2 + 28 + place * LINE), line, INK, font(SMALL), anchor="mm")
    for row, tall in zip(rows, heights, strict=True):
        _draw_row(sheet, draw, row, top, width, tall)
        top += tall
    for number, column in enumerate(columns):
        if column.bar:
            _draw_bar(sheet, draw, column.bar, MARGIN + number * (width + MARGIN), top, width)
    top += bars
    for line, ink in [*((line, AMBER) for line in notes), *((line, INK) for line in titles)]:
        draw.text((MARGIN, top + LINE / 2), line, ink, font(SMALL), anchor="lm")
        top += LINE
    return sheet


def _draw_row(sheet: Image, draw: Any, row: Row, top: int, width: int, tall: int) -> None:
    right = sheet.width - MARGIN
    if row.scale:
        length, words = _ruler(row.scale, width)
        end = right - int(draw.textlength(words, font(SMALL))) - 6
        draw.text((right, top + LINE / 2), words, INK, font(SMALL), anchor="rm")
        draw.line([(end - length, top + LINE / 2), (end, top + LINE / 2)], INK, 2)
        for tick in (end - length, end):
            draw.line([(tick, top + 4), (tick, top + LINE - 4)], INK, 1)
        right = end - length - MARGIN
    for line in wrapped(draw, row.caption, right - MARGIN, SMALL, 1):
        draw.text((MARGIN, top + LINE / 2), line, INK, font(SMALL), anchor="lm")
    room = tall - LINE - 4
    for number, cell in enumerate(row.cells):
        left = MARGIN + number * (width + MARGIN) + (width - cell.picture.width) // 2
        high = top + LINE + (room - cell.picture.height) // 2
        sheet.paste(cell.picture, (left, high))
        x, y = left + cell.picture.width / 2, high + cell.picture.height / 2
        if cell.empty:
            for place, line in enumerate(wrapped(draw, cell.empty, cell.picture.width, SMALL, 2)):
                draw.text((x, y + place * LINE), line, AMBER, font(SMALL), anchor="mm")
        half = RIM / 2
        edges = [
            (left - half, y),
            (left + cell.picture.width + half, y),
            (x, high - half),
            (x, high + cell.picture.height + half),
        ]
        for letter, edge in zip(cell.letters, edges, strict=True):
            draw.text(edge, letter, INK, font(SMALL), anchor="mm")


def _draw_bar(sheet: Image, draw: Any, bar: tuple[NDArray, str, str], left: int, top: int, width: int) -> None:
    from PIL import Image

    table, low, high = bar
    strip = Image.fromarray(np.ascontiguousarray(np.broadcast_to(table[None], (_BAR, *table.shape))))
    sheet.paste(strip.resize((width, _BAR)), (left, top))
    (low,) = wrapped(draw, low, width / 2 - 4, SMALL, 1) or [""]
    (high,) = wrapped(draw, high, width / 2 - 4, SMALL, 1) or [""]
    draw.text((left, top + _BAR + LINE / 2), low, INK, font(SMALL), anchor="lm")
    draw.text((left + width, top + _BAR + LINE / 2), high, INK, font(SMALL), anchor="rm")


def _ruler(scale: float, width: int) -> tuple[int, str]:
    """Return the length in pixels, and the words, of a bar of a round number of mm."""
    lengths = [length for length in (1, 2, 5, 10, 20, 50, 100, 200) if length / scale <= 0.5 * width] or [1]
    return max(2, round(lengths[-1] / scale)), f"{lengths[-1]} mm"


def wrapped(draw: Any, words: str, width: float, size: int, most: int) -> list[str]:
    """Break words into lines that fit into a width in pixels; what is beyond `most` lines is cut, with dots.

    Args:
        draw: of PIL.
        words: any text; letters that the font lacks become "?".
        width: in pixels.
        size: of the font.
        most: lines.
    """
    letters = font(size)
    lines: list[str] = []
    for word in words.encode("ascii", "replace").decode("ascii").split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, letters) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_cut(draw, line, width, letters) for line in lines]


def _cut(draw: Any, line: str, width: float, letters: Any) -> str:
    if draw.textlength(line, letters) <= width:
        return line
    while line and draw.textlength(f"{line}...", letters) > width:
        line = line[:-1]
    return f"{line}..."
