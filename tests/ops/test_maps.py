"""The convolution of maps with all that stands around it, against plain operations in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from clinicalfmamba_nets.ops import conv3x3, convolves_maps, native, scan_backend
from clinicalfmamba_nets.ops.plain import conv3x3_plain

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
AROUND = ("before", "after", "times", "plus")


def inputs(sizes: tuple[int, ...], results: int, scale: int = 1) -> list[torch.Tensor]:
    """x, weight, bias, and what stands around, in float64."""
    generator = torch.Generator().manual_seed(0)
    maps = (2, *(scale * size for size in sizes), results)
    taps = (results, 32, *(3 for _ in sizes))
    shapes = (2, *sizes, 32), taps, (results,), (2, 32), (2, results), maps, maps
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[1] /= 17 if len(sizes) == 2 else 30
    return tensors


@pytest.mark.parametrize("around", [set(), {"times", "before"}, {"after"}, {"plus"}, set(AROUND)], ids=str)
@pytest.mark.parametrize(("dilation", "scale", "fast"), [(1, 1, False), (5, 1, False), (3, 1, True), (1, 2, False)])
@pytest.mark.parametrize("sizes", [(13, 9), (1, 4), (4, 24), (5, 13, 9), (1, 1, 4), (4, 2, 7)], ids=str)
def test_it_is_what_plain_operations_give(
    sizes: tuple[int, ...], dilation: int, scale: int, fast: bool, around: set[str]
) -> None:
    for results in (16, 48):
        tensors = inputs(sizes, results, scale)
        first = tensors[:3]
        parts = [part if name in around else None for name, part in zip(AROUND, tensors[3:], strict=True)]
        options = dilation, scale, fast, 0.2, 0.1
        expected = conv3x3_plain(*first, *parts, *options)
        single = [t if t is None else t.float() for t in (*first, *parts)]
        for function in (native.conv3x3, torch.ops.clinicalfmamba.conv3x3):
            found = function(*single, *options)
            assert found.shape == expected.shape
            assert (found.double() - expected).abs().max() < (1e-4 if fast else 1e-5)


@pytest.mark.parametrize("sizes", [(40, 40), (9, 12, 14)], ids=str)
def test_it_rounds_as_finely_as_a_plain_convolution(sizes: tuple[int, ...]) -> None:
    x, weight, bias, *_ = inputs(sizes, 32)
    exact = conv3x3_plain(x, weight, bias, *[None] * 4, 1, 1, False, 1.0, 1.0)
    plain = conv3x3_plain(x.float(), weight.float(), bias.float(), *[None] * 4, 1, 1, False, 1.0, 1.0)
    ours = conv3x3(x.float(), weight.float(), bias.float())
    assert (ours - exact).norm() < 1.5 * (plain - exact).norm()


@pytest.mark.parametrize("sizes", [(50, 31), (7, 11, 9)], ids=str)
def test_one_and_two_threads_give_the_same_bits_and_other_layouts_the_same(sizes: tuple[int, ...]) -> None:
    x, weight, bias, *_ = (t.float() for t in inputs(sizes, 64))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(conv3x3(x, weight, bias, dilation=3))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    turned = x.movedim(-1, 1).contiguous().movedim(1, -1)
    options = *[None] * 4, 3, 1, False, 1.0, 1.0
    assert torch.equal(torch.ops.clinicalfmamba.conv3x3(turned, weight, bias, *options), found[0])


def test_values_that_are_not_finite_are_not_hidden() -> None:
    x, weight, bias, *_ = (t.float() for t in inputs((9, 9), 16))
    x[0, 4, 4, 3] = torch.nan
    assert conv3x3(x, weight, bias, slope=0.2)[0, 3:6, 3:6].isnan().all()
    assert not conv3x3(x, weight, bias)[1].isnan().any()
    x, weight, bias, *_ = (t.float() for t in inputs((5, 7, 9), 16))
    x[0, 2, 4, 4, 3] = torch.nan
    assert conv3x3(x, weight, bias, slope=0.2)[0, 1:4, 3:6, 3:6].isnan().all()


def test_gradients_are_those_of_plain_operations() -> None:
    tensors = [t.float().requires_grad_() for t in inputs((5, 6), 16)]
    options = 1, 1, False, 0.2, 0.1
    found = torch.autograd.grad(torch.ops.clinicalfmamba.conv3x3(*tensors, *options).square().sum(), tensors)
    expected = torch.autograd.grad(conv3x3_plain(*tensors, *options).square().sum(), tensors)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_it_serves_in_single_precision_without_gradients_alone() -> None:
    x, weight = torch.ones(1, 16, 4, 4), torch.ones(16, 16, 3, 3)
    assert convolves_maps(x, weight) and convolves_maps(
        x[None].movedim(0, 2), weight[..., None].expand(-1, -1, -1, -1, 3)
    )
    assert not convolves_maps(x, weight.requires_grad_())
    with torch.no_grad():
        assert convolves_maps(x, weight)
        assert not convolves_maps(x.double(), weight.double())
        assert not convolves_maps(x[:, :8], weight[:, :8])
        with scan_backend("torch"):
            assert not convolves_maps(x, weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not convolves_maps(x, weight)


def test_empty_maps_and_shapes_that_do_not_fit() -> None:
    weight, bias = torch.ones(16, 16, 3, 3), torch.ones(16)
    for batch, rows in itertools.product((0, 2), (0, 3)):
        assert conv3x3(torch.ones(batch, rows, 4, 16), weight, bias, scale=2).shape == (batch, 2 * rows, 8, 16)
        volumes, taps = torch.ones(batch, 2, rows, 4, 16), torch.ones(16, 16, 3, 3, 3)
        assert conv3x3(volumes, taps, bias).shape == volumes.shape
    with pytest.raises(ValueError, match=r"before: expected \(2, 16\), found \(1, 16\)"):
        conv3x3(torch.ones(1, 3, 3, 16), weight, bias, before=torch.ones(1, 16))
    with pytest.raises(RuntimeError, match="multiples of 16"):
        conv3x3(torch.ones(1, 3, 3, 8), weight[:, :8], bias)
    for function in (
        conv3x3,
        lambda *tensors: torch.ops.clinicalfmamba.conv3x3(*tensors, *[None] * 4, 1, 1, False, 1.0, 1.0),
    ):
        with pytest.raises((ValueError, RuntimeError), match=r"weight: expected .*, found"):
            function(torch.ones(1, 3, 3, 3, 16), weight, bias)
