"""The fusion loss: intensity of the brighter source, gradient of the sharper one, structure of both."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clinicalfmamba_nets.functional.gradients import sobel_gradients
from clinicalfmamba_nets.functional.precision import without_autocast
from clinicalfmamba_nets.functional.ranges import BatchCheck
from clinicalfmamba_nets.losses.correlation import difference_correlation
from clinicalfmamba_nets.losses.edges import edge_overshoot, edge_preservation
from clinicalfmamba_nets.losses.information import LEAST_FIDELITY, information_fidelity
from clinicalfmamba_nets.losses.shapes import check_pair
from clinicalfmamba_nets.losses.structures import plateau_error, shading_error, spot_loss

WINDOW, SIGMA = 11, 1.5


def check_weights(weights: dict[str, float]) -> dict[str, float]:
    """Return the weights of a loss's terms: below 0 a training would move away from what a term asks for.

    Raises:
        ValueError: one is no finite number of at least 0.

    Example:
        >>> check_weights({"pixel": -1.0})
        Traceback (most recent call last):
        ...
        ValueError: weight of pixel: expected a number of at least 0, found -1.0
    """
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"weight of {name}: expected a number of at least 0, found {weight!r}")
    return weights


def _lost_information(pred: Tensor, image: Tensor) -> Tensor:
    return 1 - information_fidelity(pred, image).clamp_min(LEAST_FIDELITY).sqrt().mean()


OWN_TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "edges": lambda pred, image: 1 - edge_preservation(pred, image),
    "information": _lost_information,
    "overshoot": edge_overshoot,
    "plateau": plateau_error,
    "spots": spot_loss,
    "correlation": lambda pred, image: 1 - difference_correlation(pred, image).mean() / 2,
    "shading": shading_error,
}


class FusionLoss(nn.Module):
    """Weighted sum of named terms between a fused image and its two sources: three of the paper, seven of ours.

    - ``pixel``: mean |f - max(x, y)|.
    - ``gradient``: ``magnitude``: mean of | |grad f| - max(|grad x|, |grad y|) | with |grad| the sum of the absolute
      Sobel derivatives (zero padding); ``signed``: mean |grad f - grad s| per derivative, with s at each pixel the
      source of the larger magnitude, so that an edge keeps its direction too.
    - ``ssim``: 1 - SSIM(f, x) / 2 - SSIM(f, y) / 2, Gaussian window 11, sigma 1.5, zero "same" padding, data range 1.

    Terms of ours, computed where their weight is not 0:

    - ``edges``: 1 - `edge_preservation`, a smooth Qabf.
    - ``information``: 1 - mean of the square roots of the visual information fidelities towards the two sources. The
      root makes it dearer to lose a source than to copy the other one better.
    - ``overshoot``: `edge_overshoot`, gradients beyond the stronger source's.
    - ``plateau``: `plateau_error`, flat bright regions that are not flat or not bright.
    - ``spots``: `spot_loss`, small bright spots that no longer stand out.
    - ``correlation``: 1 - half the `difference_correlation`, what each source adds to the image.
    - ``shading``: `shading_error`, drifts and borders where both sources are even.

    Source: "ClinicalFMamba", arXiv 2508.03008, section 2.5, weights 2 / 10 / 5. The paper writes an L2 norm for the
    gradient; the published 2D code has the L1 form above. The published 3D code compares with the maximum of the
    signed derivatives, slice by slice; here the 3D form is that of 2D with three derivatives, for any shape.
    ``signed`` is not in the paper.

    Args:
        pixel_weight: weight of the pixel term.
        gradient_weight: weight of the gradient term.
        ssim_weight: weight of the SSIM term.
        gradient: ``magnitude`` or ``signed``.
        p: 1 for the mean absolute, 2 for the mean squared gradient difference.
        ssim_balance: share of the first image in the SSIM term, in [0, 1]; the paper's is 0.5.
        by_slices: compare volumes (B, C, X, Y, Z) slice by slice across the last axis, all terms but ``shading``: the
            definitions in 2D, for voxels that are not cubes and patches of few slices.
        edge_weight: weight of ``edges``.
        information_weight: weight of ``information``, which needs 17 pixels along each axis.
        overshoot_weight: weight of ``overshoot``.
        plateau_weight: weight of ``plateau``.
        spot_weight: weight of ``spots``.
        correlation_weight: weight of ``correlation``.
        shading_weight: weight of ``shading``.

    Raises:
        ValueError: unknown ``gradient`` or ``p``, a weight that is no number of at least 0, a balance outside [0, 1].

    Example:
        >>> image = torch.rand(1, 2, 32, 32)
        >>> loss = FusionLoss()
        >>> sorted(loss.terms(image[:, :1], image))
        ['gradient', 'pixel', 'ssim']
    """

    def __init__(
        self,
        pixel_weight: float = 2.0,
        gradient_weight: float = 10.0,
        ssim_weight: float = 5.0,
        *,
        gradient: str = "magnitude",
        p: int = 1,
        ssim_balance: float = 0.5,
        by_slices: bool = False,
        edge_weight: float = 0.0,
        information_weight: float = 0.0,
        overshoot_weight: float = 0.0,
        plateau_weight: float = 0.0,
        spot_weight: float = 0.0,
        correlation_weight: float = 0.0,
        shading_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if gradient not in ("magnitude", "signed"):
            raise ValueError(f"gradient: expected magnitude or signed, found {gradient!r}")
        if p not in (1, 2):
            raise ValueError(f"p: expected 1 or 2, found {p!r}")
        own = dict(
            edges=edge_weight, information=information_weight, overshoot=overshoot_weight, plateau=plateau_weight,
            spots=spot_weight, correlation=correlation_weight, shading=shading_weight,
        )  # fmt: skip
        plain = {"pixel": pixel_weight, "gradient": gradient_weight, "ssim": ssim_weight}
        self.weights = check_weights(plain | {name: weight for name, weight in own.items() if weight})
        if not 0 <= ssim_balance <= 1:
            raise ValueError(f"ssim_balance: expected a share from 0 to 1, found {ssim_balance}")
        self.gradient, self.p, self.ssim_balance = gradient, p, ssim_balance
        self.check = BatchCheck("image")
        self.by_slices = by_slices

    def forward(self, pred: Tensor, image: Tensor) -> Tensor:
        """Weighted sum of the terms.

        Args:
            pred: fused images, (B, 1, *S) in [0, 1].
            image: their sources, (B, 2, *S) in [0, 1].

        Returns:
            A scalar.

        Raises:
            FusionInputError: shapes that do not fit, sources that are not finite or far outside [0, 1].
        """
        terms = self.terms(pred, image)
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()

    @without_autocast
    def terms(self, pred: Tensor, image: Tensor) -> dict[str, Tensor]:
        """The unweighted terms by name, each a scalar; arguments as in :meth:`forward`."""
        check_pair(pred, image)
        self.check(pred, image)
        pred, image = pred.float(), image.float()
        whole = (pred, image)
        if self.by_slices and pred.dim() == 5:
            pred, image = (volume.movedim(4, 1).flatten(0, 1) for volume in whole)  # (B Z, C, X, Y)
        difference = self._gradient_difference(pred, image)
        return {
            "pixel": (pred - image.amax(1, keepdim=True)).abs().mean(),
            "gradient": difference.abs().mean() if self.p == 1 else difference.square().mean(),
            "ssim": self._ssim(pred, image),
            **{
                name: term(*whole) if name == "shading" else term(pred, image)
                for name, term in OWN_TERMS.items()
                if name in self.weights
            },
        }

    def _gradient_difference(self, pred: Tensor, image: Tensor) -> Tensor:
        of_pred, of_image = sobel_gradients(pred), sobel_gradients(image)  # (B, 1 or 2, dims, *S)
        size = of_image.abs().sum(2)  # (B, 2, *S)
        if self.gradient == "magnitude":
            return of_pred.abs().sum(2) - size.amax(1, keepdim=True)
        first_is_sharper = (size[:, :1] >= size[:, 1:]).unsqueeze(2)
        return of_pred - torch.where(first_is_sharper, of_image[:, :1], of_image[:, 1:])

    def _ssim(self, pred: Tensor, image: Tensor) -> Tensor:
        from pytorch_msssim import ssim  # zero padding in front of its "valid" windows makes them "same"

        margin = [WINDOW // 2] * (2 * (pred.dim() - 2))
        pred, image = (F.pad(x, margin).transpose(0, 1) for x in (pred, image))  # (1, B, *S), (2, B, *S)
        # The images of a batch as channels: CPUs filter 16 of them side by side, and a single one four times slower.
        similar = ssim(pred.expand_as(image), image, 1.0, size_average=False, win_size=WINDOW, win_sigma=SIGMA)  # (2,)
        return 1 - self.ssim_balance * similar[0] - (1 - self.ssim_balance) * similar[1]
