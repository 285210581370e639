"""A CT as the networks know it: bone white, whatever window it is shown in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor
from torch import Tensor

from clinicalfmamba_nets.transforms.restore import TISSUE_KEY


@dataclass(frozen=True)
class WhiteBone:
    """The contrast of a CT in a wide window, stretched about soft tissue until bone is white.

    The networks learn from CTs whose bone is white. In a window as wide as that of bone it is darker than the fat of an
    MR, and would be taken for nothing. So the shares of the sources are decided where it is white, and mix the images
    as their windows show them. Source: ours.

    Args:
        levels: what soft tissue and bone of each channel are in the images, (B, 2, 2) in [0, 1]. A channel whose bone
            is white, or no brighter than soft tissue, stays as it is.

    Example:
        >>> white = WhiteBone(torch.tensor([[[0.0, 1.0], [0.3, 0.4]]]))  # an MR, and a CT in the window of bone
        >>> [round(value, 3) for value in white(torch.tensor([[[0.5, 0.5, 0.5], [0.2, 0.3, 0.4]]]))[0, 1].tolist()]
        [0.0, 0.3, 1.0]
    """

    levels: Tensor

    @classmethod
    def of(cls, image: Tensor) -> WhiteBone | None:
        """Read from the meta of pairs, (B, 2, *spatial), what `WindowIntensityPair` has recorded.

        Returns:
            None where there is nothing to stretch.
        """
        levels = image.meta.get(TISSUE_KEY) if isinstance(image, MetaTensor) else None
        if levels is None:
            return None
        white = cls(torch.as_tensor(levels).reshape(-1, 2, 2).expand(len(image), 2, 2))
        return white if bool(white._stretched().any()) else None

    def _stretched(self) -> Tensor:
        soft, bone = self.levels.unbind(-1)
        return (soft < bone) & (bone < 1)

    def __call__(self, image: Tensor) -> Tensor:
        """Stretch pairs, (B, 2, *spatial) in [0, 1]; the shape and the range stay."""
        image = image.clone()
        for number, channel in self._stretched().nonzero().tolist():
            soft, bone = self.levels[number, channel].tolist()
            image[number, channel].sub_(soft).mul_((1 - soft) / (bone - soft)).add_(soft).clamp_(0, 1)
        return image
