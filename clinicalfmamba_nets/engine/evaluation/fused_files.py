"""Fused images that another program wrote, read from a folder as if a network had drawn them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.engine.evaluation.suspicions import OtherPairs, suspicions
from clinicalfmamba_nets.engine.run.record import read_outputs
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.functional.ranges import value_text
from clinicalfmamba_nets.functional.voi import apply_curve
from clinicalfmamba_nets.io import case_name, image_extension, printable
from clinicalfmamba_nets.io.dicom.files import holds_dicom
from clinicalfmamba_nets.transforms import LoadImagePair
from clinicalfmamba_nets.transforms.restore import CURVE_KEY, FACTS_KEY

FIELDS = ("case", "image", "image2")
_TWELVE_BITS = 4096
SLACK = 0.02  # share of the range that a saved image may leave it


class FusedFiles(nn.Module):
    """The fused images of one method, found by the names of their cases.

    A file belongs to a pair when it is named by the entry's `fused`, or fits the rule; without a rule its name without
    ending is `<case>_fused`, `<case>`, or one of these with the name of the first or second image, where that name
    occurs once in the list. No file is taken for two pairs.

    Args:
        folder: of the images: PNG or NIfTI (or any format that is read; a DICOM series is a folder), grey or color.
        entries: of the list of pairs, with `case`, `image`, `image2` and perhaps `fused`.
        rule: pattern of the names such as "{case}_result.png", with the fields `{case}`, `{image}`, `{image2}`.
        data_range: the value that counts as white; None for 1, 255 or 65535 by the kind of the file.

    Raises:
        FusionInputError: no such folder, or a rule without a field.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        entries: Sequence[Mapping[str, Any]],
        rule: str | None = None,
        data_range: float | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.rule, self.data_range = Path(folder), rule, data_range
        if not self.folder.is_dir():
            raise input_error(printable(folder), "a folder of fused images", "no such folder", "check the path")
        if rule is not None and not any(f"{{{field}}}" in rule for field in FIELDS):
            raise input_error("rule", "a name with {case}, {image} or {image2}", repr(rule), "such as {case}_fused.png")
        seen = [file for file in self.folder.iterdir() if not file.name.startswith(".")]
        files = sorted(file for file in seen if (image_extension(file) if file.is_file() else holds_dicom(file)))
        self.files: dict[str, list[Path]] = {}
        for file in files:
            for name in {file.name.casefold(), case_name(file.name).casefold()}:
                self.files.setdefault(name, []).append(file)
        self.counts = {field: Counter(_stem(entry, field) for entry in entries) for field in FIELDS}
        self.taken: dict[Path, str] = {}
        self.loader = LoadImagePair(allow_constant=True)
        self.others = OtherPairs()
        self.made = {str(told.get("fused")): told for told in read_outputs(self.folder).values()}

    def names_of(self, entry: Mapping[str, Any]) -> list[str]:
        """Names that the fused image of a pair may have, the best first."""
        if entry.get("fused"):
            return [Path(str(entry["fused"])).name]
        stems = {field: _stem(entry, field) for field in FIELDS}
        if self.rule is not None:
            name = self.rule
            for field, stem in stems.items():
                name = name.replace(f"{{{field}}}", stem)
            return [name]
        alone = [stem for field, stem in stems.items() if stem and (field == "case" or self.counts[field][stem] == 1)]
        return list(dict.fromkeys(name for stem in alone for name in (f"{stem}_fused", stem)))

    def file_of(self, entry: Mapping[str, Any]) -> Path:
        """Find the fused image of a pair.

        Raises:
            FusionInputError: none, several of one name, or one that another pair has.
        """
        case, names = str(entry.get("case", "?")), self.names_of(entry)
        found = next((self.files[name.casefold()] for name in names if name.casefold() in self.files), [])
        where = f"case {case} in {printable(self.folder)}"
        if len(found) != 1:
            listed = ", ".join(file.name for file in found) or "none"
            expected = f"one fused image named {' or '.join(names[:2])}"
            raise input_error(where, expected, listed, "name the files by --rule, or by `fused` in the list")
        if self.taken.setdefault(found[0], case) != case:
            text = f"{found[0].name}, which case {self.taken[found[0]]} has"
            raise input_error(where, "a fused image of its own", text, "name the files by --rule")
        return found[0]

    def of_pair(self, entry: Mapping[str, Any], item: Mapping[str, Any], image: Tensor) -> tuple[Tensor, list[str]]:
        """Read the fused image of a pair.

        Args:
            entry: of the list, with the paths.
            item: the pair as it was read.
            image: its sources, (2, *spatial) in [0, 1].

        Returns:
            (1, *spatial) in [0, 1], the luma of a color image, and remarks: a copy, greyed, shifted.

        Raises:
            FusionInputError: no file, a bad one, another size, or a range that cannot be told.
        """
        file = self.file_of(entry)
        loaded, chroma = self.loader(entry["image"], str(file))
        fused = torch.as_tensor(loaded).as_subclass(Tensor)[1:]  # (1, *spatial)
        if fused.shape[1:] != image.shape[1:]:
            expected, found = (" x ".join(map(str, shape[1:])) for shape in (image.shape, fused.shape))
            raise input_error(file.name, f"the size of the sources, {expected}", found, "score images of their size")
        facts = loaded.meta["sources"][1]
        meta = getattr(item.get("image"), "meta", {})
        fused = self._scaled(fused, facts, meta, file.name)
        remarks = suspicions(fused, image, chroma, item.get("image_chroma"))
        remarks += self._other_windows(file, meta)
        return fused, [*remarks, *self.others(str(entry.get("case", "?")), fused, image)]

    def _other_windows(self, file: Path, meta: Mapping[str, Any]) -> list[str]:
        """Tell of windows by which `fuse` has made an image, where others bring its sources to [0, 1] here."""
        told = self.made.get(file.name, {})
        then, now = told.get("intensity", []), json.loads(meta.get(FACTS_KEY, "[]"))
        kinds, kinds_now = ([window["modality"] for window in windows] for windows in (then, now))
        if kinds == kinds_now[::-1] != kinds_now:
            return []  # they were exchanged
        remarks = []
        for name, made, scored in zip("AB", then, now, strict=False):
            if made["unit"] == scored["unit"] and _apart(made, scored):
                option = f"--window-{name.lower()}" if made["modality"] == scored["modality"] else "--task"
                value = f" {told['task']}" if option == "--task" and told.get("task") else ""
                seen = f"fused with image {name} from {_ends(made)}, scored from {_ends(scored)}"
                remarks.append(f"{seen}: give {option}{value}")
        return remarks

    def _scaled(self, fused: Tensor, facts: Mapping[str, Any], meta: Mapping[str, Any], name: str) -> Tensor:
        """Bring stored values to [0, 1]: by the range given, the kind of the file, or the units of the first source."""
        low, high = float(fused.min()), float(fused.max())
        limits = meta.get("intensity_scale")
        start, curve, top = 0.0, None, self.data_range or float(facts["value_range"] or 0.0)
        if self.data_range and 0 < float(facts["value_range"] or 0.0) < self.data_range:
            found = f"a file whose white is {facts['value_range']:g}"
            raise input_error(name, f"values up to {self.data_range:g}", found, "leave --range out, or correct it")
        if not self.data_range and top == 65535 and 0 < high < _TWELVE_BITS:
            found = f"{low:g} to {high:g} of 16 bits"
            remedy = "give --range with the value that is white: 4095 for 12 bits, 65535 where it is so dark"
            raise input_error(name, "values up to white, 65535", found, remedy)
        if not top and high <= 1 + SLACK:
            top = 1.0
        elif not top and facts["dtype"] == "uint8":
            top = 255.0
        elif not top and limits is not None:
            start, top = (float(value) for value in torch.as_tensor(limits)[0][:2])  # as this program saves a volume
            curve = meta.get(CURVE_KEY)
        reach = SLACK * (top - start)
        if not top or low < start - reach or high > top + reach:
            expected = f"values from {start:g} to {top:g}" if top else "a known range of values"
            shown = "" if limits is None else "give --window-a as the image was fused, or "
            remedy = f"{shown}give --range with the value that is white"
            raise input_error(name, expected, f"{low:g} to {high:g}", remedy)
        if curve is not None:
            return apply_curve(fused, torch.as_tensor(curve)[0])
        return ((fused - start) / (top - start)).clamp(0, 1)


def _ends(window: Mapping[str, Any]) -> str:
    unit = f" {window['unit']}" if window["unit"] else ""
    return f"{value_text(window['low'])} to {value_text(window['high'])}{unit} ({window['window']})"


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    reach = SLACK * (other["high"] - other["low"])
    curved = (one["window"] == "curve head") != (other["window"] == "curve head")
    return curved or any(abs(one[end] - other[end]) > reach for end in ("low", "high"))


def _stem(entry: Mapping[str, Any], field: str) -> str:
    value = str(entry.get(field, ""))
    return value if field == "case" else case_name(Path(value).name) if value else ""
