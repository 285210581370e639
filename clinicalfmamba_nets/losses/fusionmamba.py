"""The loss of FusionMamba: as the fusion loss, with the intensities squared."""

from __future__ import annotations

from torch import Tensor

from clinicalfmamba_nets.losses.fusion import FusionLoss


class FusionMambaLoss(FusionLoss):
    """Weighted sum of the mean squared difference to the brighter source, of the gradient term and of 1 - SSIM.

    Source: "FusionMamba", arXiv 2404.09498, section 3.5, with the weights 20 / 10 / 10 that its section 5.3 finds best.
    The published code has 10 / 1 / 10 and a multi-scale SSIM, which needs 161 pixels along each axis; here it is the
    plain one, as in the paper. The other terms are those of :class:`FusionLoss`.

    Args:
        pixel_weight: weight of the squared intensity term.
        gradient_weight: weight of the gradient term.
        ssim_weight: weight of the SSIM term.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 2, 16, 16)
        >>> round(float(FusionMambaLoss().terms(image[:, :1] + 0.1, image)["pixel"]), 4)
        0.01
    """

    def __init__(self, pixel_weight: float = 20.0, gradient_weight: float = 10.0, ssim_weight: float = 10.0) -> None:
        super().__init__(pixel_weight, gradient_weight, ssim_weight)

    def terms(self, pred: Tensor, image: Tensor) -> dict[str, Tensor]:
        """The unweighted terms by name, each a scalar; arguments as in :meth:`forward`."""
        terms = super().terms(pred, image)
        difference = pred.float() - image.float().amax(1, keepdim=True)
        return {**terms, "pixel": difference.square().mean()}
