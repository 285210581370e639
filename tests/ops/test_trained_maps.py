"""The convolution of maps with gradients, against torch's convolution in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clinicalfmamba_nets.blocks.maps_conv import maps_conv
from clinicalfmamba_nets.ops import native, scan_backend, trained_conv, trains_maps

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no native kernels: {native.reason()}")
SIZES = [(13, 9), (4, 24), (5, 7, 9)]


def inputs(sizes: tuple[int, ...], wanted: bool = True) -> list[torch.Tensor]:
    """x, weight, bias in single precision."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 32, *sizes), (48, 32, *(3 for _ in sizes)), (48,)
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[1] /= 17 if len(sizes) == 2 else 30
    return [t.requires_grad_(wanted) for t in tensors]


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dilation: int, scale: int) -> torch.Tensor:
    """The same by torch."""
    if scale == 2:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    return (F.conv2d if x.dim() == 4 else F.conv3d)(x, weight, bias, padding=dilation, dilation=dilation)


def gradients(y: torch.Tensor, tensors: list[torch.Tensor], **options: bool) -> tuple[torch.Tensor, ...]:
    """Of a sum that tells every pixel from the others."""
    way = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return torch.autograd.grad((way * y.square()).mean(), tensors, **options)


def close(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    """Within the rounding of single precision."""
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 3e-6 * other.abs().max()


@pytest.mark.parametrize(("dilation", "scale"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_results_and_gradients_are_those_of_plain_operations(sizes, dilation, scale) -> None:
    tensors = inputs(sizes)
    double = [t.detach().double().requires_grad_() for t in tensors]
    y, expected = trained_conv(*tensors, dilation, scale), plain(*double, dilation, scale)
    close((y,), (expected,))
    close(gradients(y, tensors), gradients(expected, double))


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
def test_a_gradient_of_one_tensor_alone(wanted) -> None:
    tensors = [t.requires_grad_(yes) for t, yes in zip(inputs((6, 5), wanted=False), wanted, strict=True)]
    (leaf,) = (t for t in tensors if t.requires_grad)
    close(gradients(trained_conv(*tensors), [leaf]), gradients(plain(*tensors, 1, 1), [leaf]))


@pytest.mark.parametrize("sizes", SIZES[1:], ids=str)
def test_gradients_have_gradients_and_come_in_batches(sizes) -> None:
    tensors = inputs(sizes)
    found, expected = trained_conv(*tensors), plain(*tensors, 1, 1)
    second = [
        gradients(sum(g.square().sum() for g in gradients(y, tensors, create_graph=True)), tensors)
        for y in (found, expected)
    ]
    close(*second)
    ways = torch.randn(3, *found.shape, generator=torch.Generator().manual_seed(1))
    batches = [
        torch.autograd.grad(y, tensors, ways, is_grads_batched=True)
        for y in (trained_conv(*tensors), plain(*tensors, 1, 1))
    ]
    close(*batches)


def test_what_comes_behind_may_work_in_its_memory() -> None:
    tensors = inputs((6, 5))
    found = F.leaky_relu(trained_conv(*tensors), 0.2, inplace=True)
    close(gradients(found, tensors), gradients(F.leaky_relu(plain(*tensors, 1, 1), 0.2), tensors))


@pytest.mark.parametrize("sizes", SIZES[1:], ids=str)
def test_the_layer_takes_it_and_is_the_same_under_the_torch_backend(sizes) -> None:
    torch.manual_seed(0)
    layer, x = maps_conv(len(sizes), 32, 16, dilation=2), inputs(sizes)[0]
    y = layer(x)
    assert "TrainedConvolution" in type(y.grad_fn).__name__
    with scan_backend("torch"):
        expected = layer(x)
    assert "TrainedConvolution" not in type(expected.grad_fn).__name__
    close((y,), (expected,))
    close(gradients(y, [x, *layer.parameters()]), gradients(expected, [x, *layer.parameters()]))


def test_it_serves_in_single_precision_of_plain_tensors_alone() -> None:
    x, weight, bias = inputs((6, 5))
    assert trains_maps(x, weight, bias)
    assert not trains_maps(x.double(), weight.double(), bias.double())
    assert not trains_maps(x[:, :8], weight[:, :8], bias)
    assert not trains_maps(x, weight[..., :1], bias)
    assert not trains_maps(x.to("meta"), weight.to("meta"), bias.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not trains_maps(x, weight, bias)
    with torch.autograd.forward_ad.dual_level():
        assert not trains_maps(torch.autograd.forward_ad.make_dual(x.detach(), x.detach()), weight, bias)
    layer = maps_conv(2, 32, 16)
    slope = torch.func.vmap(torch.func.grad(lambda one: layer(one[None]).sum()))(x.detach()[:1])
    torch.testing.assert_close(slope, torch.autograd.grad(layer(x[:1]).sum(), x)[0][:1], atol=1e-5, rtol=0)
