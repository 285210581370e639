"""A contact sheet: pictures of many pairs in rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.io.files import atomic_file, printable

MARGIN, HEADER, SIDE = 4, 20, 96
PAPER, INK = (18, 18, 20), (225, 225, 228)


def contact_sheet(rows: Sequence[tuple[str, Sequence[NDArray]]], titles: Sequence[str], foot: str = "") -> NDArray:
    """Lay pictures out as a table, one pixel per pixel, one pair in each row.

    Args:
        rows: case name and its pictures, (H, W) or (H, W, 3) in [0, 1]; the sizes may differ between rows.
        titles: one for each column.
        foot: words below the table.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: if there is no row, or a row has not one picture for each title.

    Example:
        >>> contact_sheet([("16011", [np.zeros((30, 40))])], ["fused"]).shape
        (58, 200, 3)
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows or any(len(pictures) != len(titles) for _, pictures in rows):
        raise ValueError(f"a contact sheet needs rows of {len(titles)} pictures, got {[len(row[1]) for row in rows]}")
    width = max(picture.shape[1] for _, pictures in rows for picture in pictures)
    width = max(width, SIDE)
    heights = [max(picture.shape[0] for picture in pictures) for _, pictures in rows]
    size = (SIDE + (width + MARGIN) * len(titles) + MARGIN, HEADER + sum(heights) + MARGIN * len(rows) + MARGIN)
    size = (size[0], size[1] + HEADER * bool(foot))
    sheet = Image.new("RGB", size, PAPER)
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(12), HEADER
    for column, title in enumerate(titles):
        left = SIDE + MARGIN + column * (width + MARGIN)
        draw.text((left, HEADER / 2), _shortened(draw, title, width, font), INK, font, anchor="lm")
    for (case, pictures), height in zip(rows, heights, strict=True):
        draw.text((MARGIN, top + 12), _shortened(draw, case, SIDE - MARGIN, font), INK, font, anchor="lm")
        for column, picture in enumerate(pictures):
            levels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
            sheet.paste(Image.fromarray(levels), (SIDE + MARGIN + column * (width + MARGIN), top))
        top += height + MARGIN
    if foot:
        words = _shortened(draw, foot, size[0] - 2 * MARGIN, font)
        draw.text((MARGIN, top + HEADER / 2), words, INK, font, anchor="lm")
    return np.asarray(sheet)


def _shortened(draw: Any, words: str, width: float, font: Any) -> str:
    """Words that the font can draw, cut at the end until they fit into a width in pixels."""
    words = printable(words).encode("ascii", "replace").decode("ascii")
    while words and draw.textlength(words, font) > width:
        words = words[:-1]
    return words


def write_contact_sheet(
    rows: Sequence[tuple[str, Sequence[NDArray]]], titles: Sequence[str], path: str | os.PathLike[str], foot: str = ""
) -> None:
    """Write `contact_sheet` as PNG, whole or not at all.

    Args:
        rows: see `contact_sheet`.
        titles: see `contact_sheet`.
        path: the PNG file.
        foot: see `contact_sheet`.
    """
    from PIL import Image

    sheet = Image.fromarray(contact_sheet(rows, titles, foot))
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")


def write_sheet_of_previews(
    previews: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], width: int = 640, most: int = 60
) -> None:
    """Write the previews of a folder of cases on one sheet, two beside each other, to look through them at a glance.

    Args:
        previews: PNG files; of more than `most`, every n-th is shown.
        path: the PNG file to be written.
        width: of a preview, in pixels.
        most: previews on the sheet.

    Raises:
        ValueError: there are none.
    """
    from PIL import Image

    if not previews:
        raise ValueError("a contact sheet needs at least one preview")
    shown = []
    for name in list(previews)[:: -(-len(previews) // most)]:
        with Image.open(name) as preview:
            size = (width, max(1, round(preview.height * width / preview.width)))
            shown.append(preview.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    rows = [shown[number : number + 2] for number in range(0, len(shown), 2)]
    heights = [max(picture.height for picture in row) + MARGIN for row in rows]
    sheet = Image.new("RGB", (max(map(len, rows)) * (width + MARGIN) + MARGIN, sum(heights) + MARGIN), PAPER)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, small in enumerate(row):
            sheet.paste(small, (MARGIN + column * (width + MARGIN), top))
        top += height
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
