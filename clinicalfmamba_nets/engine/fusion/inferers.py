"""How a batch goes into the network as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import Tensor


def prepare_fusion_batch(
    batchdata: dict[str, Tensor], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Return the pair as input and as target: fusion has no label, its loss compares with both sources.

    Args:
        batchdata: a batch with the key "image", (B, 2, *spatial).
        device: where to move it.
        non_blocking: whether the copy may overlap with the host's work.
        kwargs: further arguments of `Tensor.to`.

    Example:
        >>> image, target = prepare_fusion_batch({"image": torch.zeros(1, 2, 8, 8)}, "cpu")
        >>> image is target
        True
    """
    image = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    return image, image


class WholeImageInferer(SimpleInferer):
    """Run the network once on the whole image, as a plain tensor, and give the result the metadata of the input.

    The metadata of a MetaTensor are looked up at every operation of a network; without them a forward is faster and
    equal to the last bit.

    Args:
        amp: compute in bfloat16 where torch's autocast does so, on whatever device the images are. MONAI's own `amp`
            is for one make of GPU only, and does nothing on a processor.
    """

    def __init__(self, amp: bool = False) -> None:
        super().__init__()
        self.amp = amp

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({settings})"

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return network(inputs), (B, 1 or 2, *spatial) in float32, for inputs (B, 2, *spatial)."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        with torch.autocast(plain.device.type, torch.bfloat16, enabled=self.amp):
            fused = super().__call__(plain, network, *args, **kwargs)
        fused = fused.float() if self.amp else fused
        return with_metadata(fused, inputs)


def with_metadata(fused: Tensor, inputs: Tensor) -> Tensor:
    """Give a result the metadata of its inputs, where these have any."""
    return MetaTensor(fused).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else fused
