"""What a fused image is compared with: the free baselines, and images that fool single metrics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from clinicalfmamba_nets.errors import input_error
from clinicalfmamba_nets.metrics import head_region
from clinicalfmamba_nets.nets import AverageFusion, GuidedFilterFusion, LaplacianPyramidFusion, MaximumFusion

REFERENCE = "average"
TRAP = "trap: "
BASELINES = (AverageFusion, MaximumFusion, LaplacianPyramidFusion, GuidedFilterFusion)


class MixtureFusion(nn.Module):
    """Weighted mean of the sources; a weight of 1 or 0 copies one of them.

    Args:
        weight: share of the first source, 0 to 1.

    Example:
        >>> MixtureFusion(1.0)(torch.tensor([0.25, 1.0]).view(1, 2, 1, 1)).item()
        0.25
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, *spatial) to (B, 1, *spatial)."""
        return self.weight * image[:, :1] + (1 - self.weight) * image[:, 1:]


class NoisyAverageFusion(nn.Module):
    """Average plus invisible noise, the same at every call: it raises the entropy of the floats and nothing else.

    Args:
        deviation: standard deviation of the noise.
    """

    def __init__(self, deviation: float = 1e-5) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, *spatial) to (B, 1, *spatial)."""
        average = image.mean(dim=1, keepdim=True)
        noise = torch.randn(average.shape, generator=torch.Generator().manual_seed(0)).to(average)
        return (average + self.deviation * noise).clamp(0, 1)


class VeiledAverageFusion(nn.Module):
    """Average with a faint grey where both sources are black.

    Args:
        veil: grey level of the background, 0 to 1.
    """

    def __init__(self, veil: float = 4 / 255) -> None:
        super().__init__()
        self.veil = veil

    def forward(self, image: Tensor) -> Tensor:
        """Fuse (B, 2, *spatial) to (B, 1, *spatial)."""
        head = head_region(image[:, :1], image[:, 1:])
        return torch.where(head, image.mean(dim=1, keepdim=True), torch.as_tensor(self.veil).to(image))


def baseline_networks(spatial_dims: int = 2) -> dict[str, nn.Module]:
    """Build the fusions that any user has without learning.

    Args:
        spatial_dims: 2 or 3.

    Returns:
        Name -> network without parameters.

    Example:
        >>> list(baseline_networks())
        ['average', 'maximum', 'Laplacian pyramid', 'Laplacian pyramid, max base', 'guided filter']
    """
    return {
        REFERENCE: AverageFusion(spatial_dims),
        "maximum": MaximumFusion(spatial_dims),
        "Laplacian pyramid": LaplacianPyramidFusion(spatial_dims),
        "Laplacian pyramid, max base": LaplacianPyramidFusion(spatial_dims, base="max"),
        "guided filter": GuidedFilterFusion(spatial_dims),
    }


def of_dims(network: nn.Module, spatial_dims: int) -> nn.Module:
    """Return a free baseline for images of that many dimensions; any other network as it is.

    Args:
        network: a baseline, which has no parameters, or another network.
        spatial_dims: 2 or 3.

    Example:
        >>> of_dims(MaximumFusion(2), 3)(torch.rand(1, 2, 8, 9, 5)).shape
        torch.Size([1, 1, 8, 9, 5])
    """
    if not isinstance(network, BASELINES) or network.spatial_dims == spatial_dims:
        return network
    fitted = copy.copy(network)
    fitted.spatial_dims = spatial_dims
    return fitted


def trap_networks() -> dict[str, nn.Module]:
    """Build the images that look good in one metric and are worthless: a table must show them as such.

    Returns:
        Name, starting with "trap: " -> network without parameters.

    Example:
        >>> list(trap_networks())[0]
        'trap: copy of A'
    """
    traps = {
        "copy of A": MixtureFusion(1.0),
        "copy of B": MixtureFusion(0.0),
        "0.9 A + 0.1 B": MixtureFusion(0.9),
        "average + noise of 1e-5": NoisyAverageFusion(),
        "average + 4/255 in the background": VeiledAverageFusion(),
    }
    return {f"{TRAP}{name}": network for name, network in traps.items()}


def check_methods(names: Iterable[str], baselines: bool) -> None:
    """Refuse names of methods that a table has for its own rows, which would take their places.

    Args:
        names: of the methods that are compared.
        baselines: whether the free baselines stand beside them; the average is what remarks refer to in any case.

    Raises:
        FusionInputError: the name of a baseline or trap, or an empty one.
    """
    own = [*baseline_networks()] if baselines else [REFERENCE]
    for name in names:
        if not name.strip() or name in own or name.startswith(TRAP):
            remedy = "give it another one: NAME=FOLDER, or the setting label"
            raise input_error(f"method {name!r}", "a name that is no row of the table itself", repr(name), remedy)


def compared_networks(
    networks: nn.Module | Mapping[str, nn.Module],
    name: str = "ClinicalFMamba",
    spatial_dims: int = 2,
    baselines: bool = True,
    traps: bool = False,
) -> dict[str, nn.Module]:
    """Put networks beside the baselines, and the traps where wanted, in the order of the table.

    Args:
        networks: one network, or name -> network.
        name: name of a single network.
        spatial_dims: 2 or 3.
        baselines: add the baselines.
        traps: add the traps.

    Returns:
        Name -> network.

    Raises:
        FusionInputError: a network has the name of a row of the table itself.

    Example:
        >>> len(compared_networks(MixtureFusion(0.7), "mixture", traps=True))
        11
    """
    own = {name: networks} if isinstance(networks, nn.Module) else dict(networks)
    check_methods(own, baselines)
    free = baseline_networks(spatial_dims) if baselines else {}
    return {**own, **free, **(trap_networks() if traps else {})}
