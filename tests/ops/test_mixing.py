"""The kernel that refines shares, against the losses in double precision and against the same descent by torch."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from clinicalfmamba_nets.engine import Refinement
from clinicalfmamba_nets.engine.fusion.descent import _Loss
from clinicalfmamba_nets.engine.fusion.refinement import Seen
from clinicalfmamba_nets.ops import native, refined_shares, refines_shares, scan_backend
from clinicalfmamba_nets.ops.native import mix_ops

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no kernels: {native.reason()}")
WEIGHTS = ("overshoot", "texture", "information", "structure", "correlation", "brightness", "lesions")
NOTHING = dict.fromkeys(WEIGHTS, 0.0)
ALL = {"overshoot": 0.12, "texture": 0.3, "information": 0.2, "structure": 0.5, "correlation": 0.5, "lesions": 12.0}


def pair_and_share(rows: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth noisy sources and random shares."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 2, 5, 5, generator=generator)
    pair = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bicubic")
    pair = (pair + 0.1 * torch.rand(1, 2, rows, columns, generator=generator)).clamp(0, 1)
    return pair, torch.rand(1, 1, rows, columns, generator=generator)


@pytest.mark.parametrize("term", [{}, *({name: 1.0} for name in WEIGHTS), ALL], ids=lambda t: "-".join(t) or "edges")
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (48, 40), (72, 104)])
def test_slopes_are_those_of_the_losses(term, rows, columns):
    refinement = Refinement(**(NOTHING | term))
    pair, share = pair_and_share(rows, columns, rows)
    fused = (pair[:, 1:] + share * (pair[:, :1] - pair[:, 1:])).double().requires_grad_()
    (expected,) = torch.autograd.grad(_Loss(asdict(refinement), pair.double())(fused), fused)
    found = mix_ops.loss_slopes(pair, share, asdict(refinement))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert (found - expected).abs().mean() <= 2e-5 * expected.abs().mean()


@pytest.mark.parametrize("term", [{"information": 1.0}, ALL])
def test_slopes_where_a_source_is_flat_or_both_are_equal(term):
    refinement = Refinement(**(NOTHING | term))
    pair, share = pair_and_share(48, 48, 3)
    pair[:, 1, :, :24] = 0.25
    pair[:, 1, 24:, 24:] = pair[:, 0, 24:, 24:]
    fused = (pair[:, 1:] + share * (pair[:, :1] - pair[:, 1:])).double().requires_grad_()
    (expected,) = torch.autograd.grad(_Loss(asdict(refinement), pair.double())(fused), fused)
    found = mix_ops.loss_slopes(pair, share, asdict(refinement))
    assert found.isfinite().all() and (found - expected).abs().mean() <= 1e-3 * expected.abs().mean()


def test_the_descent_is_that_by_torch():
    pair, share = pair_and_share(64, 72, 1)
    fused = torch.cat([pair[:, 1:] + share * (pair[:, :1] - pair[:, 1:]), share], 1)
    assert refines_shares(pair)
    found = Refinement(**ALL)(fused, pair)
    with scan_backend("torch"):
        assert not refines_shares(pair)
        expected = Refinement(**ALL)(fused, pair)
    apart = (found - expected)[:, 0].abs()
    assert apart.quantile(0.9) <= 2e-3 and apart.mean() <= 1e-3  # Adam divides by the size of what is rounded
    assert (expected - fused)[:, 0].abs().mean() > 0.01


def test_the_descent_with_noise_is_that_by_torch():
    pair, share = pair_and_share(64, 72, 1)
    fused = torch.cat([pair[:, 1:] + share * (pair[:, :1] - pair[:, 1:]), share], 1)
    noise = torch.zeros_like(pair)
    noise[:, 1, :, :36], noise[:, 0, 40:] = 0.1, 0.02
    seen = Seen(pair, pair, noise)
    found, without = Refinement(**ALL)(fused, pair, seen), Refinement(**ALL)(fused, pair)
    with scan_backend("torch"):
        expected = Refinement(**ALL)(fused, pair, seen)
    apart = (found - expected)[:, 0].abs()
    assert apart.quantile(0.9) <= 2e-3 and apart.mean() <= 1e-3
    assert (found[:, 1] - without[:, 1])[..., :40, :36].mean() > 0.02, "the share of the quiet source rises"


def test_negative_views_count_by_their_numbers():
    pair, share = pair_and_share(32, 32)
    bounds = torch.zeros_like(share), torch.ones_like(share)
    options = 3, asdict(Refinement(**ALL))
    expected = refined_shares(pair, share, *bounds, *options)
    tensors = [torch._neg_view(-t) for t in (pair, share, *bounds)]
    assert torch.equal(refined_shares(*tensors, *options), expected)


def test_images_of_a_batch_give_what_they_give_alone():
    pairs = [pair_and_share(32, 40, seed) for seed in range(3)]
    pair, share = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    bounds = torch.zeros_like(share), torch.ones_like(share)
    weights = asdict(Refinement(**ALL))
    together = refined_shares(pair, share, *bounds, 5, weights)
    alone = [
        refined_shares(pair[i : i + 1], share[i : i + 1], *(b[i : i + 1] for b in bounds), 5, weights)
        for i in (0, 1, 2)
    ]
    assert torch.equal(together, torch.cat(alone)) and not torch.equal(together, share)
    assert torch.equal(refined_shares(pair, share, *bounds, 0, weights), share)


def test_bounds_hold():
    pair, share = pair_and_share(32, 32)
    refined = refined_shares(pair, share, share - 0.01, share + 0.02, 8, asdict(Refinement()))
    moved = refined - share
    assert -0.010001 <= moved.min() < -0.009 and 0.019 < moved.max() <= 0.020001


@pytest.mark.parametrize("sides", [(8, 16), (16, 20), (18, 32)])
def test_other_sides_are_refused(sides):
    pair, share = pair_and_share(*sides)
    with pytest.raises(RuntimeError, match="sides must be multiples of 8, and at least 16"):
        refined_shares(pair, share, share, share, 1, asdict(Refinement()))


def test_only_single_precision_on_the_cpu():
    assert not refines_shares(torch.rand(1, 2, 16, 16, dtype=torch.float64))
    assert not refines_shares(torch.rand(1, 2, 16, 16, device="meta"))


@pytest.mark.parametrize("name", ["pair", "share", "least", "most", "squares"])
@pytest.mark.parametrize("place", ["cut", "meta"])
def test_another_shape_or_device_is_refused(name, place):
    pair, share = pair_and_share(32, 32)
    given = {"pair": pair, "share": share, "least": share, "most": share}
    given["squares"] = pair
    given[name] = given[name][..., :16] if place == "cut" else given[name].to("meta")
    with pytest.raises(ValueError, match="expected"):
        refined_shares(**given, steps=1, weights=asdict(Refinement()))


def test_no_image_gives_none():
    pair, share = pair_and_share(32, 32)
    assert refined_shares(pair[:0], share[:0], share[:0], share[:0], 1, asdict(Refinement())).shape == (0, 1, 32, 32)
