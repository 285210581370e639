"""Flat regions and small spots as loss terms: by hand, against the metric, their gradients; the sum of all terms."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.losses import FusionLoss
from clinicalfmamba_nets.losses.correlation import difference_correlation
from clinicalfmamba_nets.losses.structures import plateau_error, shading_error, spot_loss
from clinicalfmamba_nets.metrics import compute_calcification_contrast, compute_scd, compute_vif

OWN = ("edge", "information", "overshoot", "plateau", "spot", "correlation", "shading")


def head_with_spots(bright: float = 0.95, surround: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat MRI and a CT, (1, 1, 96, 96) each: a ring of bone with two calcifications, tissue within."""
    axis = torch.arange(96) - 47.5
    radius = torch.hypot(axis[:, None], axis[None, :])
    ct, mri = torch.where(radius < 40, surround, 0.0), torch.full((96, 96), 0.5)
    ct = torch.where((radius > 37) & (radius < 43), 1.0, ct)
    for row, column in ((40, 40), (58, 52)):
        ct[row : row + 3, column : column + 3] = bright
    return mri[None, None], ct[None, None]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_plateau_error_by_hand(dims: int, share: float) -> None:
    image = torch.zeros(1, 2, *[21] * dims)
    image[0, 1, 4:17, 4:17] = 0.9
    fused = share * image[:, :1] + (1 - share) * image[:, 1:]
    assert plateau_error(fused, image).item() == pytest.approx(0.9 * share, abs=1e-6)
    close = torch.stack([image[:, 1] * 0.8, image[:, 1]], 1)  # 0.18 apart: either may be shown
    assert plateau_error(close[:, :1], close) == 0


def test_textured_regions_are_no_plateaus() -> None:
    torch.manual_seed(0)
    image = torch.stack([torch.zeros(32, 32), 0.5 + 0.5 * torch.rand(32, 32)]).unsqueeze(0)
    assert plateau_error(image[:, :1], image) == 0


def test_a_spot_counts_by_its_height_and_its_surround() -> None:
    mri, ct = head_with_spots()
    image = torch.cat([mri, ct], 1)
    brighter = image.amax(1, keepdim=True)  # the spots are there, in a surround of 0.5 instead of 0.3
    lost = {name: spot_loss(fused, image).item() for name, fused in {"ct": ct, "max": brighter, "mri": mri}.items()}
    assert lost["ct"] == 0
    assert lost["max"] == pytest.approx(0.2 / 0.65, abs=0.02)
    assert lost["mri"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_spot_loss_goes_with_the_metric(share: float) -> None:
    mri, ct = head_with_spots(surround=0.5)
    fused = share * ct + (1 - share) * mri
    kept = compute_calcification_contrast(fused, mri, ct).value.item()
    assert spot_loss(fused, torch.cat([mri, ct], 1)).item() == pytest.approx(1 - kept, abs=0.05)


def test_a_crowd_of_spots_is_texture() -> None:
    image = torch.zeros(1, 2, 64, 64)
    image[:, 1, ::3, ::3] = 1
    image[:, 1, 1::3, ::3] = 1
    assert spot_loss(image[:, :1], image) == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_shading_is_what_no_mix_by_one_weight_makes(dims: int) -> None:
    image = torch.rand(1, 2, *[16] * dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for weight in (0.0, 0.3, 1.0):
        mix = weight * image[:, :1] + (1 - weight) * image[:, 1:]
        assert shading_error(mix, image).item() == pytest.approx(0, abs=1e-12)


def test_the_shading_of_a_drift_over_even_sources_by_hand() -> None:
    image = torch.cat([torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.8)], 1)
    drift = torch.linspace(0.2, 0.8, 16).expand(1, 1, 16, 16)
    steps = [0.04 * scale for scale in (4, 8)]  # across at each scale, none along, and 16 pixels have no neighbors
    assert shading_error(drift, image).item() == pytest.approx(sum(steps) / 4, abs=1e-6)


def test_where_a_source_changes_its_steps_may_be_taken_or_left() -> None:
    edge = (torch.arange(32) >= 16).float().expand(1, 1, 32, 32)
    image = torch.cat([0.2 + 0.6 * edge, torch.full_like(edge, 0.5)], 1)
    assert shading_error(0.3 + 0.4 * edge, image) == 0
    assert 0 < shading_error(0.9 - 0.8 * edge, image) < 0.001


@pytest.mark.parametrize("term", [plateau_error, shading_error, spot_loss, difference_correlation])
@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_are_those_of_differences(term, dims: int) -> None:
    torch.manual_seed(1)
    image = torch.zeros(1, 2, *[8] * dims, dtype=torch.float64)
    image[0, 1, 2:7, 2:7] = 0.9
    if term is spot_loss:
        image[0, 1] = 0
        image[0, 1, 3:5, 3:5] = 0.9
    if term is shading_error:
        image[0, 1] = 0.9
    fused = (0.3 * image.amax(1, keepdim=True) + 0.2 * torch.rand(1, 1, *[8] * dims).double()).requires_grad_(True)
    assert term(fused, image) > 0
    assert torch.autograd.gradcheck(lambda x: term(x, image), (fused,), eps=1e-7, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", OWN)
def test_each_term_joins_the_sum_by_its_weight_and_alone(name: str) -> None:
    mri, ct = head_with_spots()
    image, pred = torch.cat([mri, ct], 1), (0.5 * mri + 0.5 * ct)
    plain, more = FusionLoss(), FusionLoss(**{f"{name}_weight": 3.0})
    (added,) = more.terms(pred, image).keys() - plain.terms(pred, image).keys()
    assert added.startswith(name)
    value = more.terms(pred, image)[added]
    assert (more(pred, image) - plain(pred, image)).item() == pytest.approx(3 * value.item(), rel=1e-4, abs=1e-6)


def test_the_information_term_is_that_of_the_metric() -> None:
    mri, ct = head_with_spots()
    pred, loss = torch.maximum(mri, ct), FusionLoss(information_weight=1.0)
    scores = compute_vif(pred, ct * 0.8, ct)
    expected = 1 - (scores.a.item() ** 0.5 + scores.b.item() ** 0.5) / 2
    found = loss.terms(pred, torch.cat([ct * 0.8, ct], 1))["information"].item()
    assert found == pytest.approx(expected, abs=5e-3)


def test_the_correlation_is_that_of_the_metric() -> None:
    mri, ct = torch.rand(2, 1, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred = 0.3 * mri + 0.7 * ct
    found = difference_correlation(pred, torch.cat([mri, ct], 1)).item()
    assert found == pytest.approx(compute_scd(pred, mri, ct).value.item(), abs=0.02)


def test_all_terms_have_finite_gradients_on_black_and_flat_images() -> None:
    loss = FusionLoss(**{f"{name}_weight": 1.0 for name in OWN})
    for image in (torch.zeros(1, 2, 32, 32), torch.full((1, 2, 32, 32), 0.5)):
        pred = image.mean(1, keepdim=True).requires_grad_(True)
        loss(pred, image).backward()
        assert torch.isfinite(pred.grad).all()
