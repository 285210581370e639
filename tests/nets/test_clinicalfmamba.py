"""The network: shapes, parameters, batches, odd sizes, options, and its recorded forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clinicalfmamba_nets.blocks.decoder import upsample_conv_by_phase
from clinicalfmamba_nets.blocks.layout import is_channels_last
from clinicalfmamba_nets.nets import ClinicalFMamba, clinicalfmamba_2d, clinicalfmamba_3d
from clinicalfmamba_nets.ops import scan_backend

TINY = {"features": 8, "dim": 16, "depth": 1}


def _tiny(dims: int = 2, **options) -> ClinicalFMamba:
    torch.manual_seed(0)
    build = clinicalfmamba_2d if dims == 2 else clinicalfmamba_3d
    return build(**{**TINY, **({"decoder_depth": 1} if dims == 2 else {}), **options}).eval()


@pytest.mark.parametrize(
    ("build", "options", "count"),
    [
        (clinicalfmamba_2d, {"num_down": 2}, 3_155_521),
        (clinicalfmamba_2d, {}, 3_168_961),
        (clinicalfmamba_3d, {"scan": "official"}, 3_408_289),
    ],
)
def test_live_parameters_of_the_published_graphs(build, options, count) -> None:
    assert sum(p.numel() for p in build(**options).parameters()) == count


@pytest.mark.parametrize("head", ["sigmoid", "gain", "mix"])
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 35)])
def test_2d_sizes_odd_and_not_square(shape, head) -> None:
    fused = _tiny(head=head)(torch.rand(1, 2, *shape))
    assert fused.shape == (1, 1, *shape)
    assert float(fused.min()) >= 0 and float(fused.max()) <= 1


@pytest.mark.parametrize("scan", ["tri_plane", "planar", "official", "official_restored"])
def test_3d_sizes_odd_and_not_cubic(scan) -> None:
    assert _tiny(3, scan=scan)(torch.rand(1, 2, 16, 19, 23)).shape == (1, 1, 16, 19, 23)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_parameter_gets_a_gradient(dims) -> None:
    net = _tiny(dims).train()
    net(torch.rand(2, 2, *[16, 24, 16][:dims])).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    "options",
    [
        {"num_down": 2},
        {"pyramid": "separate"},
        {"pyramid": "none"},
        {"token_swap": False},
        {"fusion_mamba": False},
        {"cmca": False},
        {"cmca_kernel": 3},
        {"norm": "instance"},
        {"decoder_act": "leakyrelu"},
    ],
    ids=str,
)
def test_options_change_the_graph_and_still_script(options) -> None:
    net, image = _tiny(**options), torch.rand(1, 2, 32, 40)
    assert set(net.state_dict()) != set(_tiny().state_dict()) or options.keys() & {"decoder_act", "cmca_kernel"}
    with torch.no_grad(), scan_backend("torch"):
        torch.testing.assert_close(torch.jit.script(net)(image), net(image))


def test_batch_elements_do_not_see_each_other() -> None:
    net, image = _tiny(), torch.rand(3, 2, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(image)[1:2], net(image[1:2]), rtol=1e-5, atol=1e-6)


def test_black_background_stays_black_with_the_gain_head() -> None:
    image = torch.rand(1, 2, 48, 48)
    image[..., :20] = 0
    fused = _tiny(head="gain")(image)
    assert fused[..., :14].abs().max() == 0  # the smoothing of three bands reaches 2 + 4 pixels


def test_inference_is_deterministic_and_equals_the_plain_upsampling() -> None:
    net, image = _tiny(), torch.rand(1, 2, 40, 40)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))
    for dims in (2, 3):
        x, weight = torch.randn(2, 3, *[5, 6, 4][:dims]), torch.randn(4, 3, *[3] * dims)
        conv = F.conv2d if dims == 2 else F.conv3d
        plain = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, torch.ones(4), padding=1)
        torch.testing.assert_close(upsample_conv_by_phase(x, weight, torch.ones(4)), plain, rtol=1e-5, atol=1e-5)


def _layouts_in_convolutions(net: ClinicalFMamba) -> list[bool]:
    """Filled as the network runs: whether the channels were last in each convolution's input."""
    found: list[bool] = []
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            layer.register_forward_hook(lambda layer, args, out: found.append(is_channels_last(args[0])))
    return found


@pytest.mark.parametrize("head", ["sigmoid", "gain", "mix"])
@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_reach_every_convolution_and_change_no_result(dims, head) -> None:
    torch.manual_seed(1)
    image = torch.rand(2, 2, *[33, 26, 20][:dims])
    fused, gradients = [], []
    for channels_last in (True, False):
        net = _tiny(dims, channels_last=channels_last, head=head)
        layouts = _layouts_in_convolutions(net)
        with torch.no_grad():
            fused.append(net(image))
            net.train()(image)
        assert layouts and all(layouts) == channels_last
        with scan_backend("torch"):  # in float64: single precision may round an activation across its kink
            net.double()(image.double()).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert (fused[0] - fused[1]).abs().max() < 2e-5
    assert (gradients[0] - gradients[1]).norm() < 1e-9 * gradients[1].norm()


def test_script_and_trace_take_other_sizes() -> None:
    net, other = _tiny(), torch.rand(2, 2, 45, 70)
    with torch.no_grad():
        expected = net(other)
        torch.testing.assert_close(torch.jit.script(net)(other), expected, rtol=1e-4, atol=1e-5)
        traced = torch.jit.trace(net, torch.rand(1, 2, 32, 32), check_trace=False)
        torch.testing.assert_close(traced(other), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_torch_export_takes_other_sizes(dims, gradients) -> None:
    net = _tiny(dims)
    names = ["height", "width", "depth"][:dims]
    sizes = {i + 2: torch.export.Dim(name, min=16, max=512) for i, name in enumerate(names)}
    sizes[0] = torch.export.Dim("batch", min=1, max=16)
    example = torch.rand(2, 2, *[32, 40, 24][:dims])
    with torch.set_grad_enabled(gradients):
        program = torch.export.export(net, (example,), dynamic_shapes=(sizes,), strict=False)
    other = torch.rand(3, 2, *[45, 70, 19][:dims])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), net(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims: expected 2 or 3"),
        ({"num_down": 4}, "num_down: expected 2 or 3"),
        ({"scan": "tri_plane"}, "scan: expected one of four_directions for 2D"),
        ({"head": "linear"}, "head: expected one of sigmoid, gain, mix"),
        ({"pyramid": "deep"}, "pyramid: expected shared, separate or none"),
    ],
)
def test_wrong_options_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        ClinicalFMamba(**{**TINY, **options})


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"image: expected \(B, 2, \*S\) with 2 sizes"):
        _tiny()(torch.rand(1, 1, 32, 32))
