"""Side-by-side picture of a pair and its fused image, to judge a result at a glance."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinicalfmamba_nets.io.files import atomic_file

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

MARGIN = 12
HEADER = 30
LEAST_SIDE = 256
GREATEST_SIDE = 768
PAPER = (18, 18, 20)
INK = (225, 225, 228)


def preview_image(
    image: NDArray,
    image2: NDArray,
    fused: NDArray,
    labels: tuple[str, str, str] = ("image A", "image B", "fused"),
    title: str | None = None,
) -> Image:
    """Draw a pair and its fused image beside each other, each stretched to its own range.

    Args:
        image: first image, (H, W) or (H, W, 3), any finite range.
        image2: second image, (H, W) or (H, W, 3).
        fused: fused image, (H, W) or (H, W, 3).
        labels: words above the three pictures.
        title: words at the foot, for example the case and the note that this is no diagnostic image.

    Returns:
        8-bit RGB picture of about 3 x 256 to 3 x 768 pixels width.

    Raises:
        ValueError: an array that is not (H, W) or (H, W, 3).

    Example:
        >>> import numpy as np
        >>> ramp = np.linspace(0, 1, 64).reshape(8, 8)
        >>> preview_image(ramp, 1 - ramp, np.maximum(ramp, 1 - ramp)).mode
        'RGB'
    """
    from PIL import Image, ImageDraw

    panels = [_panel(array) for array in (image, image2, fused)]
    width, height = panels[0].size
    footer = HEADER if title else MARGIN
    sheet = Image.new("RGB", (3 * width + 4 * MARGIN, HEADER + height + footer), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        left = MARGIN + place * (width + MARGIN)
        sheet.paste(panel.resize((width, height)) if panel.size != (width, height) else panel, (left, HEADER))
        draw.text((left + width / 2, HEADER / 2), fit_words(draw, label, width), INK, font(15), anchor="mm")
    if title:
        words = fit_words(draw, title, sheet.width - 2 * MARGIN, 12)
        draw.text((sheet.width / 2, sheet.height - HEADER / 2), words, INK, font(12), anchor="mm")
    return sheet


def write_preview(
    image: NDArray,
    image2: NDArray,
    fused: NDArray,
    path: str | os.PathLike[str],
    labels: tuple[str, str, str] = ("image A", "image B", "fused"),
    title: str | None = None,
) -> Path:
    """Write `preview_image` as PNG, in one step: the file is whole or not there.

    Args:
        image: first image, (H, W) or (H, W, 3).
        image2: second image, (H, W) or (H, W, 3).
        fused: fused image, (H, W) or (H, W, 3).
        path: the PNG file; its folder is made when it is missing.
        labels: words above the three pictures.
        title: words at the foot.

    Returns:
        The path that was written.
    """
    sheet = preview_image(image, image2, fused, labels, title)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG")
    return Path(path)


def _panel(array: NDArray) -> Image:
    """One array as an 8-bit RGB picture of a readable size; whole-number enlargement keeps the pixels visible."""
    from PIL import Image

    array = np.asarray(array)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] == 3):
        raise ValueError(f"preview: expected (H, W) or (H, W, 3), found {array.shape}")
    values = np.nan_to_num(array.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    picture = Image.fromarray(np.round(scaled * 255).astype(np.uint8)).convert("RGB")
    side = max(picture.size)
    if side < LEAST_SIDE:
        factor = -(-LEAST_SIDE // side)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if side > GREATEST_SIDE:
        picture.thumbnail((GREATEST_SIDE, GREATEST_SIDE), Image.Resampling.LANCZOS)
    return picture


def font(size: int) -> FreeTypeFont | ImageFont:
    """Return the font of all pictures in a size in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def fit_words(draw: Any, words: str, width: float, size: int = 15) -> str:
    """Return words that can be drawn, cut at the end until they fit into a width in pixels."""
    words = words.encode("ascii", "replace").decode("ascii")
    if draw.textlength(words, font(size)) <= width:
        return words
    while words and draw.textlength(words + "...", font(size)) > width:
        words = words[:-1]
    return words + "..."
