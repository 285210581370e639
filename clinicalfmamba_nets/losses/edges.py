"""Edges as loss terms: a smooth Qabf, gradients and fine texture of the fused image that exceed both sources'."""

from __future__ import annotations

from torch import Tensor

from clinicalfmamba_nets.functional.gradients import sobel_gradients
from clinicalfmamba_nets.functional.windows import box_window, filter_separable
from clinicalfmamba_nets.losses.shapes import check_pair

# Sobel derivatives of this size, of images in [0, 1], count as no edge: one of 255 levels over a step.
FLAT = 4 / 255
AROUND = 5  # pixels of the window by whose texture that of a pixel counts
LEAST_TEXTURE = 1 / 255  # of images in [0, 1]: less is rounding


def _strength(gradients: Tensor) -> Tensor:
    """Length of gradients (B, C, dims, *S) with a root that can be differentiated at 0, (B, C, *S)."""
    return (gradients.square().sum(2) + FLAT**2 / 4).sqrt()


class SourceEdges:
    """The edges of two sources, computed once, and what fused images keep of them or add to them.

    Args:
        image: the two sources, (B, 2, *S) in [0, 1], 2D or 3D.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 16, 16)
        >>> kept, overshoot = SourceEdges(image.expand(1, 2, 16, 16))(image)
        >>> float(kept) > 0.75, float(overshoot)
        (True, 0.0)
    """

    def __init__(self, image: Tensor) -> None:
        self._gradients = sobel_gradients(image, "replicate")  # (B, 2, dims, *S)
        self._strength = _strength(self._gradients)
        self._strongest = self._strength.amax(1, keepdim=True)
        self._weight = self._gradients.square().sum(2).sqrt().clamp_min(0).detach()

    def __call__(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return `edge_preservation` and `edge_overshoot` of fused images (B, 1, *S), two scalars."""
        gradients = sobel_gradients(fused, "replicate")  # (B, 1, dims, *S)
        strong = _strength(gradients)
        return self.kept(gradients, strong), self.beyond(strong)

    def kept(self, gradients: Tensor, strong: Tensor) -> Tensor:
        """Return `edge_preservation` by the gradients of fused images, (B, 1, dims, *S), and their length."""
        ratio = strong.minimum(self._strength) / strong.maximum(self._strength)
        cosine = (gradients * self._gradients).sum(2) / (strong * self._strength)
        kept = (10 * (ratio - 0.5)).sigmoid() * (25 * (cosine - 0.951)).sigmoid()
        return (kept * self._weight).sum() / self._weight.sum().clamp_min(1e-6)

    def beyond(self, strong: Tensor) -> Tensor:
        """Return `edge_overshoot` by the length of the gradients of fused images, (B, 1, *S)."""
        return (strong - self._strongest).relu().sum() / self._strongest.sum()


def edge_preservation(fused: Tensor, image: Tensor) -> Tensor:
    """Share of both sources' edges that the fused image keeps in strength and direction: a smooth form of Qabf.

    Strength counts by a sigmoid of the ratio of the weaker to the stronger gradient, direction by a sigmoid of the
    cosine between them, each pixel weighted by its source's gradient. Against Qabf the constants are softer (10 for 15
    and 25 for 45 at the same half points of 0.5 and 18 degrees), direction is signed, and no arc cosine is taken, whose
    slope is infinite where the directions agree.

    Source: after Xydeas and Petrovic, "Objective image fusion performance measure", Electronics Letters 2000.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar in (0, 1).

    Raises:
        FusionInputError: shapes that do not fit.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 1, 16, 16)
        >>> float(edge_preservation(image, image.expand(1, 2, 16, 16))) > 0.75
        True
    """
    check_pair(fused, image)
    gradients = sobel_gradients(fused, "replicate")
    return SourceEdges(image).kept(gradients, _strength(gradients))


def edge_overshoot(fused: Tensor, image: Tensor) -> Tensor:
    """Gradient of the fused image beyond the stronger source's, as a share of the stronger source's gradient.

    Args:
        fused: (B, 1, *S) in [0, 1], 2D or 3D.
        image: the two sources, (B, 2, *S) in [0, 1].

    Returns:
        A scalar of at least 0; 0 for a copy of a source.

    Raises:
        FusionInputError: shapes that do not fit.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 2, 16, 16)
        >>> float(edge_overshoot(image[:, :1], image))
        0.0
    """
    check_pair(fused, image)
    return SourceEdges(image).beyond(_strength(sobel_gradients(fused, "replicate")))


class SourceTexture:
    """The fine texture of two sources, computed once, and what fused images add to it.

    Texture is how far a pixel stands out of its two neighbors along an axis, |2 f(i) - f(i-1) - f(i+1)|. Sobel
    derivatives do not see what alternates from pixel to pixel, so an image that is led by its edges alone may get a
    mesh that is in neither source. What is beyond the stronger source's texture counts as a share of that texture's
    mean over 5 x 5 pixels: a thin line counts in smooth tissue, and not in noise.

    Source: ours.

    Args:
        image: the two sources, (B, 2, *S) in [0, 1], 2D or 3D.

    Example:
        >>> import torch
        >>> mesh = torch.arange(8).view(1, 1, 1, 8).expand(1, 1, 8, 8) % 2 / 4
        >>> flat = torch.full((1, 2, 8, 8), 0.5)
        >>> SourceTexture(flat)(flat[:, :1]).item(), SourceTexture(flat)(flat[:, :1] + mesh).item() > 1
        (0.0, True)
    """

    def __init__(self, image: Tensor) -> None:
        self._sources = []
        for texture in _textures(image):
            strongest = texture.amax(1, keepdim=True)
            around = filter_separable(strongest, box_window(AROUND), "replicate")
            self._sources.append((strongest, 1 / (around + LEAST_TEXTURE)))

    def __call__(self, fused: Tensor) -> Tensor:
        """Return the texture of (B, 1, *S) beyond the stronger source's, as a share of that around, a scalar."""
        found = [
            ((texture - strongest).relu() * share).mean()
            for texture, (strongest, share) in zip(_textures(fused), self._sources, strict=True)
        ]
        return sum(found[1:], found[0]) / len(found)


def _textures(image: Tensor) -> list[Tensor]:
    """Return |2 f(i) - f(i-1) - f(i+1)| along each spatial axis, which becomes two pixels shorter."""
    found = []
    for axis in range(2, image.dim()):
        length = image.shape[axis] - 2
        sides = image.narrow(axis, 0, length) + image.narrow(axis, 2, length)
        found.append((2 * image.narrow(axis, 1, length) - sides).abs())
    return found
