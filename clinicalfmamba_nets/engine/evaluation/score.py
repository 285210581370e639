"""Score folders of fused images, of whatever program, against their sources."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Compose, Transform
from torch import nn

from clinicalfmamba_nets.data import folder_datalist, load_datalist
from clinicalfmamba_nets.data.datalists import read_list_file
from clinicalfmamba_nets.engine.evaluation.comparison import baseline_networks, check_methods
from clinicalfmamba_nets.engine.evaluation.evaluator import PairEvaluator
from clinicalfmamba_nets.engine.evaluation.fused_files import FusedFiles
from clinicalfmamba_nets.engine.evaluation.tables import Summary
from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.transforms import LoadImagePaird, WindowIntensityPaird

Entries = list[dict[str, Any]]


def listed_pairs(pairs: str | os.PathLike, section: str = "testing") -> Entries:
    """Return the pairs that fused images are scored against.

    Args:
        pairs: a data list (JSON), whose entries may name their `fused` image, or a folder of pairs.
        section: of the list.

    Raises:
        FusionInputError: no list, or no pair in it.
    """
    if Path(pairs).is_dir():
        return folder_datalist(pairs)
    entries = load_datalist(pairs, section, strict=False)
    content = read_list_file(pairs)
    named = [part for key, part in content.items() if key.startswith(section[:4])] if isinstance(content, dict) else []
    for entry, given in zip(entries, named[0] if named else content, strict=True):
        entry |= {"fused": str(given["fused"])} if isinstance(given, dict) and given.get("fused") else {}
    return entries


def named_folders(words: Sequence[str]) -> dict[str, str]:
    """Return method -> folder of words FOLDER or NAME=FOLDER; equal folder names get the name of their parent before.

    Raises:
        FusionInputError: two methods of one name, or no folder.

    Example:
        >>> named_folders(["out/a/fused", "out/b/fused", "ours=c"])
        {'a/fused': 'out/a/fused', 'b/fused': 'out/b/fused', 'ours': 'c'}
    """
    found: dict[str, str] = {}
    bare = [Path(os.path.abspath(word)) for word in words if "=" not in word or Path(word).is_dir()]
    for word in words:
        name, mark, folder = word.partition("=")
        if not mark or Path(word).is_dir():
            place = Path(os.path.abspath(word))
            twice = sum(other.name == place.name for other in bare) > 1
            name, folder = f"{place.parent.name}/{place.name}" if twice else place.name, word
        if not folder:
            raise input_error(f"method {name}", "a folder of fused images", "an empty name", "write NAME=FOLDER")
        if name in found:
            raise input_error(f"method {name}", "a name of its own", "two folders", "write NAME=FOLDER for each")
        found[name] = folder
    return found


def fused_methods(
    folders: Mapping[str, str], items: Any, rule: str | None = None, data_range: float | None = None
) -> dict[str, nn.Module]:
    """Open the folders of fused images by the name of their method.

    Args:
        folders: method -> folder.
        items: entries of a list, or run -> dataset.
        rule: see `FusedFiles`.
        data_range: see `FusedFiles`.
    """
    lists: list[Any] = list(items.values()) if isinstance(items, Mapping) else [items]
    entries: Entries = [entry for one in lists for entry in getattr(one, "data", one)]
    return {name: FusedFiles(folder, entries, rule, data_range) for name, folder in folders.items()}


def score_folders(
    words: Sequence[str],
    pairs: str | os.PathLike,
    output_dir: str | os.PathLike,
    task: str = "ct_mri",
    rule: str | None = None,
    data_range: float | None = None,
    *,
    baselines: bool = False,
    window_a: str | None = None,
    window_b: str | None = None,
    **options: Any,
) -> Summary:
    """Score fused images of one or more methods on a list of pairs, and write tables, tests and pictures.

    Args:
        words: FOLDER or NAME=FOLDER of each method.
        pairs: see `listed_pairs`.
        output_dir: folder of the results.
        task: chooses the metrics of bone and calcification, and the windows of volumes.
        rule: see `FusedFiles`.
        data_range: value of the fused images that counts as white.
        baselines: score the free baselines on the same pairs as well.
        window_a: of the first image of volumes, see `Scaled`.
        window_b: of the second one.
        **options: the other arguments of `PairEvaluator`, such as `metrics` and `convention`.

    Returns:
        The statistics, see `tables.summarize`.

    Raises:
        FusionInputError: see `PairEvaluator` and `FusedFiles`; when the others are done, for images that could not be
            scored.
    """
    entries = listed_pairs(pairs)
    methods = fused_methods(named_folders(words), entries, rule, data_range)
    check_methods(methods, baselines)
    methods |= baseline_networks() if baselines else {}
    scaled = Compose([LoadImagePaird(keys="image"), Scaled(task, window_a, window_b)])
    items: dict[str, Any] = {Path(pairs).stem: Dataset(entries, scaled)}
    return PairEvaluator(items, methods, output_dir, task=task, reference=baselines, **options).run()


class Scaled(Transform):
    """Bring the sources to [0, 1]: pictures by the range of their kind, others by windows.

    Args:
        task: as in `WindowIntensityPaird`.
        window_a: as in `WindowIntensityPaird`.
        window_b: as in `WindowIntensityPaird`.
    """

    def __init__(self, task: str, window_a: str | None = None, window_b: str | None = None) -> None:
        self.window = WindowIntensityPaird("image", window_a, window_b, task)

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Scale the entry `image`, (2, *spatial)."""
        image = data["image"]
        tops = [float(source["value_range"] or 0.0) for source in image.meta["sources"]]
        if not all(tops):
            return self.window(data)
        scales = torch.tensor(tops).view(2, *[1] * (image.dim() - 1))
        return {**data, "image": image.as_tensor() / scales}
