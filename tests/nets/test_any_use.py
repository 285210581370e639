"""What users do with a network: hooks, checkpoints, the meta device, half precision, empty batches, transforms."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from clinicalfmamba_nets.nets import (
    EHDRAN,
    GuidedFilterFusion,
    LaplacianPyramidFusion,
    clinicalfmamba_2d,
    clinicalfmamba_3d,
)
from clinicalfmamba_nets.ops import scan_backend

TINY = {"features": 4, "dim": 16, "depth": 1, "d_state": 4}
NETWORKS = {
    "2d": lambda: clinicalfmamba_2d(**TINY, decoder_depth=1),
    "2d gain": lambda: clinicalfmamba_2d(**TINY, decoder_depth=1, head="gain", pyramid="separate"),
    "3d": lambda: clinicalfmamba_3d(**TINY),
    "3d gain": lambda: clinicalfmamba_3d(**TINY, head="gain", scan="official"),
    "ehdran": lambda: EHDRAN(features=4),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def _build(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    image = torch.rand(2, 2, 16, 19, 17) if "3d" in name else torch.rand(2, 2, 24, 19)
    return NETWORKS[name](), image


def _gradient(net: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)  # of dropout
    return torch.autograd.grad(net(image).square().sum(), image)[0]


def _watch(module: torch.nn.Module, calls: list) -> torch.utils.hooks.RemovableHandle:
    return module.register_full_backward_hook(lambda module, given, received: calls.append(module))


@pytest.mark.parametrize("training", [True, False])
@every_network
def test_full_backward_hooks_on_every_module_fire_and_change_nothing(name, training) -> None:
    net, image = _build(name)
    net.train(training)
    image.requires_grad_()
    expected, calls = _gradient(net, image), []
    layers = {label: m for label, m in net.named_modules() if not isinstance(m, torch.nn.ModuleList)}
    handles = [_watch(layer, calls) for layer in layers.values()]
    assert (_gradient(net, image) - expected).norm() < 1e-2 * expected.norm()
    silent = [label for label, layer in layers.items() if layer not in calls and list(layer.parameters())]
    assert not silent
    for handle in handles:
        handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@every_network
def test_a_full_backward_hook_on_one_module_fires(name, training) -> None:
    net, image = _build(name)
    net.train(training)
    image.requires_grad_()
    expected = _gradient(net, image)
    for label, module in net.named_modules():
        if isinstance(module, torch.nn.ModuleList) or not list(module.parameters()):
            continue
        calls: list = []
        handle = _watch(module, calls)
        assert (_gradient(net, image) - expected).norm() < 1e-2 * expected.norm(), label
        handle.remove()
        assert calls, label


def test_what_a_hook_has_seen_stays_as_it_was() -> None:
    net, image = _build("2d gain")
    for layer in (net.encoder[1].conv3, net.encoder[1].dilated, net.head.refine[0]):
        seen = []
        handle = layer.register_forward_hook(
            lambda layer, args, output, seen=seen: seen.append((output, output.clone()))
        )
        net(image)
        handle.remove()
        assert seen and all(torch.equal(now, then) for now, then in seen)


@pytest.mark.parametrize("reentrant", [True, False])
@every_network
def test_checkpoints_give_the_same_gradients(name, reentrant) -> None:
    net, image = _build(name)
    net.train()
    if name == "ehdran":
        net.eval()  # dropout
    image.requires_grad_()
    leaves = [image, *(p for p in net.parameters() if p.requires_grad)]

    def gradients(run) -> torch.Tensor:
        for leaf in leaves:
            leaf.grad = None
        run().square().mean().backward()
        return torch.cat([leaf.grad.flatten() for leaf in leaves if leaf.grad is not None])

    expected = gradients(lambda: net(image))
    found = gradients(lambda: checkpoint(net, image, use_reentrant=reentrant))
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", [*NETWORKS, "laplacian", "guided"])
def test_a_start_on_the_meta_device_ends_in_the_same_network(name) -> None:
    build = {**NETWORKS, "laplacian": LaplacianPyramidFusion, "guided": GuidedFilterFusion}[name]
    with torch.device("meta"):
        net = build()
    assert net(torch.rand(1, 2, *[16] * (3 if "3d" in name else 2), device="meta")).is_meta or name == "ehdran"
    torch.manual_seed(0)
    expected = build().eval()
    net = net.to_empty(device="cpu").eval()
    net.load_state_dict(expected.state_dict())
    image = torch.rand(1, 2, *[16] * (3 if "3d" in name else 2))
    with torch.no_grad():
        assert torch.equal(net(image), expected(image))


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["2d", "2d gain", "3d", "3d gain"])
def test_other_precisions(name, dtype, backend) -> None:
    net, image = _build(name)
    net.eval()
    with scan_backend(backend):
        expected = net(image)
        found = net.to(dtype)(image.to(dtype))
        found.square().sum().backward()
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() < (1e-4 if dtype == torch.float64 else 0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("backend", ["auto", "torch"])
@every_network
def test_an_empty_batch_gives_an_empty_result(name, backend) -> None:
    net, image = _build(name)
    with scan_backend(backend):
        assert net.eval()(image[:0]).shape == (0, 1, *image.shape[2:])


@pytest.mark.parametrize("name", ["2d", "2d gain", "3d"])
def test_transforms_of_the_whole_network(name) -> None:
    net, image = _build(name)
    net.eval()
    weights = {key: p.detach() for key, p in net.named_parameters()}
    run = lambda w, x: torch.func.functional_call(net, w, (x,))  # noqa: E731
    grads = torch.func.grad(lambda w: run(w, image).square().mean())(weights)
    net(image).square().mean().backward()
    expected = torch.cat([p.grad.flatten() for p in net.parameters()])
    found = torch.cat([g.flatten() for g in grads.values()])
    assert (found - expected).norm() < 1e-3 * expected.norm()
    with torch.no_grad():
        single = torch.func.vmap(lambda x: run(weights, x.unsqueeze(0))[0])(image)
        torch.testing.assert_close(single, net(image), rtol=1e-4, atol=2e-5)
    direction = torch.randn_like(image)
    change = torch.func.jvp(lambda x: run(weights, x), (image,), (direction,))[1]
    output, pull = torch.func.vjp(lambda x: run(weights, x), image)
    weight = output.sin()
    torch.testing.assert_close((change * weight).sum(), (direction * pull(weight)[0]).sum(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["2d", "3d gain"])
def test_gradients_of_gradients_in_training(name) -> None:
    results = []
    for backend in ("auto", "torch"):
        net, image = _build(name)
        image.requires_grad_()
        with scan_backend(backend):
            (slope,) = torch.autograd.grad(net(image).square().sum(), image, create_graph=True)
            slope.square().sum().backward()
        results.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    assert (results[0] - results[1]).norm() < 2e-2 * results[1].norm() > 0


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_images_of_whole_numbers_are_refused(name) -> None:
    net, image = _build(name)
    with pytest.raises(ValueError, match=r"expected floating-point values in \[0, 1\], found torch.uint8; divide by"):
        net((image * 255).byte())


@pytest.mark.parametrize("net", [clinicalfmamba_2d(**TINY), LaplacianPyramidFusion(), GuidedFilterFusion()])
def test_what_is_no_batch_of_floats_is_named(net) -> None:
    image = torch.rand(1, 2, 24, 24)
    for other, words in ((None, "NoneType"), (image.numpy(), "numpy.ndarray")):
        with pytest.raises(ValueError, match=f"image: expected a tensor .*{words}"):
            net(other)
    for dtype in (torch.uint8, torch.int64, torch.bool):
        with pytest.raises(ValueError, match="image: expected floating-point values in .*; divide by its white"):
            net((255 * image).to(dtype))


def test_images_without_a_pixel_are_named() -> None:
    with pytest.raises(ValueError, match="image: expected sizes of at least 1"):
        clinicalfmamba_2d(**TINY)(torch.rand(1, 2, 0, 24))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"features": 0}, "features: expected a whole number of at least 1, found 0"),
        ({"dim": 2.0}, "dim: expected a whole number of at least 2, found 2.0"),
        ({"depth": -1}, "depth: expected a whole number of at least 0, found -1"),
        ({"d_state": "8"}, "d_state: expected a whole number of at least 1, found '8'"),
        ({"cmca_kernel": 2}, "cmca_kernel: expected an odd number, found 2"),
    ],
)
def test_numbers_of_a_network_are_checked(option, words) -> None:
    with pytest.raises(ValueError, match=words):
        clinicalfmamba_2d(**(TINY | option))
