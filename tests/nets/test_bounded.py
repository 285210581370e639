"""The bounded head: whatever the weights and the inputs, no pixel leaves the range of its two sources."""

from __future__ import annotations

import pytest
import torch

from clinicalfmamba_nets.blocks.heads import LOGIT_BOUND, mix
from clinicalfmamba_nets.nets import ClinicalFMamba, clinicalfmamba_3d

TINY = {"features": 4, "dim": 16, "depth": 1, "d_state": 2, "head": "mix"}


def drawn_network(seed: int, spatial_dims: int, spread: float, **options) -> torch.nn.Module:
    """A small network with weights far beyond what a training reaches."""
    torch.manual_seed(seed)
    if spatial_dims == 3:
        network = clinicalfmamba_3d(**TINY, num_down=2, **options)
    else:
        network = ClinicalFMamba(decoder_depth=1, **TINY, **options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(spread * (10 if name.startswith("head.") else 1) * torch.randn_like(parameter))
    return network.eval()


def drawn_images(seed: int, *size: int) -> torch.Tensor:
    """Noise, steps, equal halves, the limits 0 and 1, and differences of the last bit."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 2, *size, generator=generator)
    image[0] = (image[0] * 3).round() / 3
    image[1, 0, : size[0] // 2] = image[1, 1, : size[0] // 2]
    image[1, 1, -1] = torch.nextafter(image[1, 0, -1], torch.tensor(2.0))
    return image.clamp(0, 1)


def assert_between(fused: torch.Tensor, image: torch.Tensor) -> None:
    assert bool((fused >= image.amin(1, keepdim=True)).all()) and bool((fused <= image.amax(1, keepdim=True)).all())


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_every_pixel_lies_between_its_sources(spatial_dims: int, spread: float) -> None:
    size = (19, 24) if spatial_dims == 2 else (9, 8, 10)
    for seed in range(4):
        network, image = drawn_network(seed, spatial_dims, spread), drawn_images(seed, *size)
        with torch.no_grad():
            assert_between(network(image), image)
            assert_between(network.train()(image), image)


def test_rounding_leaves_the_range_neither_in_half_precision_nor_in_single() -> None:
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16)):
        image, weights = drawn_images(seed, 64, 64).to(dtype), torch.rand(2, 1, 64, 64)
        assert_between(mix(image, weights), image)
        assert torch.equal(mix(image, torch.zeros(2, 1, 64, 64)), image[:, 1:])


def test_equal_sources_come_back_unchanged() -> None:
    image = torch.rand(1, 1, 24, 17).expand(1, 2, 24, 17)
    assert torch.equal(drawn_network(0, 2, 0.2)(image), image[:, :1])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_weights_explain_the_image(spatial_dims: int) -> None:
    image = drawn_images(1, *((16, 21) if spatial_dims == 2 else (8, 8, 9)))
    told, plain = drawn_network(2, spatial_dims, 0.0, return_weights=True), drawn_network(2, spatial_dims, 0.0)
    with torch.no_grad():
        out = told(image)
        assert out.shape == (2, 2, *image.shape[2:])
        fused, weights = out[:, :1], out[:, 1:]
        torch.testing.assert_close(fused, plain(image))
        torch.testing.assert_close(torch.jit.script(told)(image), out, atol=2e-5, rtol=0)
    assert weights.min() >= 0 and weights.max() <= 1
    torch.testing.assert_close(fused, weights * image[:, :1] + (1 - weights) * image[:, 1:])


def test_weights_are_an_output_of_this_head_only() -> None:
    with pytest.raises(ValueError, match="return_weights: expected head mix, found head gain"):
        ClinicalFMamba(head="gain", return_weights=True)


def test_the_logit_is_bounded_so_that_a_gradient_is_left() -> None:
    network, image = drawn_network(3, 2, 0.2, return_weights=True), drawn_images(3, 24, 24)
    assert (network(image)[:, 1:] - 0.5).abs().max() <= torch.sigmoid(torch.tensor(LOGIT_BOUND)) - 0.5 + 1e-6
    calm = drawn_network(3, 2, 0.0)
    calm(image).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in calm.parameters())


def test_a_new_network_prefers_the_brighter_source() -> None:
    image = torch.zeros(1, 2, 24, 24)
    image[:, 1, 4:20, 4:20] = 0.9
    fused = drawn_network(0, 2, 0.0)(image)
    assert fused[0, 0, 8:16, 8:16].min() > 0.8 and fused[0, 0, 22:].max() == 0


@pytest.mark.slow
def test_an_exported_graph_keeps_the_bound() -> None:
    network, image = drawn_network(4, 2, 0.1), drawn_images(4, 24, 32)
    program = torch.export.export(network, (image,)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(image), network(image), atol=2e-5, rtol=0)
        assert_between(program(image), image)
