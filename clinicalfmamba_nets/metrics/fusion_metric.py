"""The fusion metrics as MONAI metrics, cumulated over the pairs of a data set."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from torch import Tensor

from .scores import Scores, head_region


class FusionMetric(CumulativeIterationMetric):
    """Base of the metric classes: one `compute_*` function, cumulated over the pairs of a data set by MONAI.

    Args:
        part: "value" as the literature reports it, "a" or "b" for one source, "minimum" for the lower of the two.
        inside_head: score only where a source is brighter than 8/255 instead of the whole frame.
        reduction: MONAI's reduction over the images in `aggregate`, "none" keeps one value per image.
        **options: passed to the compute function, such as `data_range`.

    Raises:
        ValueError: for an unknown part, or a part that the metric does not have.
    """

    compute: Callable[..., Scores]

    def __init__(self, part: str = "value", inside_head: bool = False, reduction: str = "mean", **options) -> None:
        super().__init__()
        if part not in ("value", "a", "b", "minimum"):
            raise ValueError(f"part must be 'value', 'a', 'b' or 'minimum', got {part!r}")
        self.part = part
        self.inside_head = inside_head
        self.reduction = reduction
        self.options = options

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if y is None or y.shape[1] != 2:
            found = None if y is None else tuple(y.shape)
            raise ValueError(f"y must hold the two sources as (B, 2, *spatial), got {found}")
        image_a, image_b = y[:, :1], y[:, 1:]
        regions = None
        if self.inside_head:
            regions = head_region(image_a, image_b, self.options.get("data_range") or 1.0)
        scores = type(self).compute(y_pred, image_a, image_b, regions=regions, **self.options)
        chosen = getattr(scores, self.part)
        if chosen is None:
            raise ValueError(f"{type(self).__name__} has no score per source: use part='value'")
        return chosen  # (B, 1)

    def aggregate(self, reduction: str | None = None) -> Tensor:
        """Reduce the scores cumulated so far.

        Args:
            reduction: overrides the reduction given at construction.

        Returns:
            One number for "mean", NaN where no image has a score; (number of images, 1) for "none".

        Raises:
            ValueError: before any image was scored.
        """
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError("no image was scored yet: call the metric before aggregate()")
        reduced, counted = do_metric_reduction(data, reduction or self.reduction)
        if (reduction or self.reduction) == "none":
            return reduced
        return torch.where(counted > 0, reduced, torch.nan)  # MONAI's mean over nothing is 0
