"""Random small bright spots in one image of a pair: what calcifications and bleedings are in a scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, RandomizableTransform
from monai.utils.enums import TransformBackends
from torch import Tensor

MOST_SPOTS = 3
RADII = (1.0, 10.0)  # pixels, drawn on a logarithmic scale
FLATTENING = (0.6, 1.0)
HEIGHTS = (0.75, 1.0)
TISSUE = (0.1, 0.7)  # values of a pixel that a spot may start from
EDGE = 1.0  # pixels over which a spot fades


class RandSpotsd(MapTransform, RandomizableTransform):
    """Put one to three bright ellipses into one image of a pair, so that a training meets many of them.

    A calcification or a small bleeding is bright in one image and absent from the other. The atlas has few, and a
    network that saw few lets them go. Centers lie on tissue (0.1 to 0.7 in that image), radii are 1 to 10 pixels,
    values 0.75 to 1, edges fade over a pixel; a pixel that is brighter already stays as it is. Source: ours.

    Args:
        keys: entries with pairs, (2, *spatial) in [0, 1], 2D or 3D.
        prob: how often a pair gets spots.
        second_share: how often they are in the second image, the CT of CT-MRI, rather than in the first.
        allow_missing_keys: do not raise when a key is missing.

    Example:
        >>> pair = {"image": torch.full((2, 32, 32), 0.4)}
        >>> spotted = RandSpotsd("image", prob=1.0, second_share=1.0).set_random_state(seed=0)(pair)["image"]
        >>> spotted[0].max().item() < 0.5 < spotted[1].max().item()
        True
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        second_share: float = 0.75,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.second_share = second_share

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw and add the spots; the pair of the caller stays as it is."""
        d = dict(data)
        for key in self.key_iterator(d):
            self.randomize(None)
            if self._do_transform:
                d[key] = self._with_spots(d[key])
        return d

    def _with_spots(self, image: Tensor) -> Tensor:
        channel = int(self.R.uniform() < self.second_share)
        plane = image[channel]
        tissue = np.argwhere(((plane > TISSUE[0]) & (plane < TISSUE[1])).cpu().numpy())
        if not len(tissue):
            return image
        image = image.clone()
        for _ in range(self.R.randint(1, MOST_SPOTS + 1)):
            image[channel] = torch.maximum(image[channel], self._spot(plane, tissue[self.R.randint(len(tissue))]))
        return image

    def _spot(self, plane: Tensor, center: np.ndarray) -> Tensor:
        """One ellipse on black, of the shape of `plane`."""
        radius = np.exp(self.R.uniform(*np.log(RADII)))
        radii = radius * self.R.uniform(*FLATTENING, size=plane.dim())
        axes = (
            ((torch.arange(size, device=plane.device) - float(middle)) / float(reach)) ** 2
            for size, middle, reach in zip(plane.shape, center, radii, strict=True)
        )
        distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0).sqrt()  # (*spatial), 1 on the rim
        shape = ((1 - distance) * radius / EDGE + 0.5).clamp(0, 1)
        return (shape * float(self.R.uniform(*HEIGHTS))).to(plane.dtype)
