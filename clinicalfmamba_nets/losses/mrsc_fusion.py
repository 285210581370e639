"""The losses of MRSCFusion's two stages: of its auto-encoder, and of its fusion of features."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clinicalfmamba_nets.functional.precision import without_autocast
from clinicalfmamba_nets.functional.windows import gaussian_window, local_moments
from clinicalfmamba_nets.losses.fusion import SIGMA, WINDOW, FusionLoss, check_weights
from clinicalfmamba_nets.losses.reconstruction import ReconstructionLoss

SCALE_SHARES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FEATURE_WEIGHTS = (1.0, 10.0, 100.0, 1000.0)
ENERGY_UNIT, AMPLIFIED = 3000.0, 10.0


def multi_scale_similarity(image: Tensor, other: Tensor) -> Tensor:
    """Multi-scale SSIM of two images in [0, 1], at as many of its five scales as hold a window of 11 pixels.

    Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.

    Args:
        image: (B, 1, H, W), each axis at least 11.
        other: the same shape.

    Returns:
        (B,) in [0, 1].

    Example:
        >>> image = torch.rand(1, 1, 32, 32)
        >>> round(multi_scale_similarity(image, image).item(), 4)
        1.0
    """
    scales = sum(min(image.shape[2:]) // 2**scale >= WINDOW for scale in range(len(SCALE_SHARES)))
    shares = [share / sum(SCALE_SHARES[:scales]) for share in SCALE_SHARES[:scales]]
    window, product = gaussian_window(WINDOW, SIGMA, image.dtype, image.device), torch.ones(len(image)).to(image)
    for scale, share in enumerate(shares):
        if scale:
            image, other = F.avg_pool2d(image, 2), F.avg_pool2d(other, 2)  # (B, 1, H / 2^s, W / 2^s)
        moments = local_moments(image, other, window)
        similar = (2 * moments.covariance + 9e-4) / (moments.variance_a + moments.variance_b + 9e-4)
        if scale == scales - 1:
            means = moments.mean_a.square() + moments.mean_b.square()
            similar = similar * (2 * moments.mean_a * moments.mean_b + 1e-4) / (means + 1e-4)
        product = product * similar.mean((1, 2, 3)).clamp_min(1e-6) ** share
    return product


@without_autocast
def energy_shares(image: Tensor) -> Tensor:
    """Share of each source by its detail: softmax of the mean squared Laplacian, in grey levels of 255, over 3000.

    Args:
        image: (B, 2, H, W) in [0, 1].

    Returns:
        (B, 2), of sum 1.

    Example:
        >>> energy_shares(torch.zeros(1, 2, 8, 8))
        tensor([[0.5000, 0.5000]])
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).to(image)
    single = F.pad(255 * image, [1, 1, 1, 1], "replicate").flatten(0, 1).unsqueeze(1)  # (2B, 1, H + 2, W + 2)
    energy = F.conv2d(single, kernel.view(1, 1, 3, 3)).square().mean((1, 2, 3)).view(-1, 2)  # (B, 2)
    return (energy / ENERGY_UNIT).softmax(1)


class MRSCFusionLoss(FusionLoss):
    """Weighted sum of 1 - MS-SSIM to each source, of the distance of fused features, and of the gradient term.

    - ``ssim``: sum over both sources of w (1 - MS-SSIM), w their `energy_shares`.
    - ``features``: sum over the four scales of {1, 10, 100, 1000} x mean |F - 10 w1 f1 - 10 w2 f2|, F the fused
      features, f those of the sources. Without ``stage``, as in a validation, it is left out.
    - ``gradient``: that of :class:`FusionLoss`.

    Source: "MRSCFusion", Xie et al., IEEE Trans. Instrum. Meas. 72 (2023) 5026917.

    Args:
        stage: has `features`, for each scale (fused, first, second): `nets.MRSCFusionStage`.
        ssim_weight: weight of ``ssim``.
        gradient_weight: weight of ``gradient``.

    Example:
        >>> image = torch.rand(1, 2, 32, 32)
        >>> sorted(MRSCFusionLoss().terms(image[:, :1], image))
        ['gradient', 'ssim']
    """

    def __init__(self, stage: Any = None, ssim_weight: float = 1000.0, gradient_weight: float = 1.0) -> None:
        super().__init__(0.0, gradient_weight, ssim_weight)
        self.weights = check_weights({"ssim": ssim_weight, "gradient": gradient_weight, "features": 1.0})
        self.stage = [stage] if stage is not None else []  # in a list, so that it is no module of the loss

    def terms(self, pred: Tensor, image: Tensor) -> dict[str, Tensor]:
        """The unweighted terms by name, each a scalar; arguments as in :class:`FusionLoss`."""
        plain = super().terms(pred, image)
        pred, image = pred.float(), image.float()
        shares = energy_shares(image)
        lost = torch.stack([1 - multi_scale_similarity(pred, source) for source in image.split(1, 1)], 1)  # (B, 2)
        terms = {"ssim": (shares * lost).sum(1).mean(), "gradient": plain["gradient"]}
        return {**terms, "features": self._distance(AMPLIFIED * shares)} if self.stage else terms

    def _distance(self, shares: Tensor) -> Tensor:
        first_share, second_share = (share.view(-1, 1, 1, 1) for share in shares.unbind(1))
        distances = [
            weight * (fused - first_share * first - second_share * second).abs().mean()
            for weight, (fused, first, second) in zip(FEATURE_WEIGHTS, self.stage[0].features, strict=True)
        ]
        return torch.stack(distances).sum()


class AutoEncoderLoss(ReconstructionLoss):
    """Mean squared error plus the weighted 1 - SSIM of images and what an auto-encoder makes of them.

    Source: "NestFuse", arXiv 2007.00328, section III-D, weight 100; its auto-encoder is MRSCFusion's.

    Args:
        ssim_weight: weight of the SSIM term.

    Example:
        >>> image = torch.rand(1, 2, 32, 32)
        >>> round(AutoEncoderLoss()(image, image).item(), 3)
        0.0
    """

    def __init__(self, ssim_weight: float = 100.0) -> None:
        super().__init__()
        self.weights = check_weights({"pixel": 1.0, "ssim": ssim_weight})

    @without_autocast
    def terms(self, pred: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Return the unweighted terms `pixel` and `ssim`, scalars, for two (B, C, H, W)."""
        from pytorch_msssim import ssim

        similar = ssim(pred.float(), image.float(), 1.0, win_size=WINDOW, win_sigma=SIGMA)
        return {"pixel": super().terms(pred, image)["pixel"], "ssim": 1 - similar}

    def forward(self, pred: Tensor, image: Tensor) -> Tensor:
        """Return the weighted sum of the terms."""
        terms = self.terms(pred, image)
        return self.weights["pixel"] * terms["pixel"] + self.weights["ssim"] * terms["ssim"]
