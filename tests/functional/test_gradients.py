"""Sobel gradients: numbers against scipy, shapes, borders, derivatives, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets.functional.gradients import gradient_magnitude, pad_edges, sobel_gradients

SCIPY_MODES = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest"}


@pytest.mark.parametrize("spatial", [(7, 9), (5, 6, 7)])
@pytest.mark.parametrize("padding_mode", sorted(SCIPY_MODES))
def test_equals_scipy_sobel(spatial, padding_mode):
    image = torch.rand(2, 3, *spatial, dtype=torch.float64)
    gradients = sobel_gradients(image, padding_mode)
    assert gradients.shape == (2, 3, len(spatial), *spatial)
    for batch in range(2):
        for axis in range(len(spatial)):
            expected = ndimage.sobel(image[batch, 1].numpy(), axis=axis, mode=SCIPY_MODES[padding_mode])
            np.testing.assert_allclose(gradients[batch, 1, axis].numpy(), expected, atol=1e-12)


def test_a_rising_ramp_has_a_positive_gradient():
    ramp = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 1, 6, 5)
    gradients = sobel_gradients(ramp, "replicate")
    assert torch.equal(gradients[0, 0, 0, 1:-1], torch.full((4, 5), 8.0))
    assert torch.equal(gradients[0, 0, 1], torch.zeros(6, 5))


def test_magnitude_norms():
    image = torch.rand(1, 1, 6, 8)
    vertical, horizontal = sobel_gradients(image)[:, :, 0], sobel_gradients(image)[:, :, 1]
    torch.testing.assert_close(gradient_magnitude(image, norm=1), vertical.abs() + horizontal.abs())
    torch.testing.assert_close(gradient_magnitude(image), torch.hypot(vertical, horizontal))


def test_derivative_is_right_and_finite_on_flat_images():
    image = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: sobel_gradients(value, "zeros"), image)
    flat = torch.zeros(1, 1, 5, 5, requires_grad=True)
    gradient_magnitude(flat, eps=1e-8).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_bad_arguments_are_named():
    image = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\).*\(4, 4\)"):
        sobel_gradients(image[0, 0])
    with pytest.raises(ValueError, match="padding_mode must be one of .*'circular'"):
        sobel_gradients(image, "circular")
    with pytest.raises(ValueError, match="norm must be 1 or 2, got 3"):
        gradient_magnitude(image, norm=3)
    with pytest.raises(ValueError, match="too small to reflect 4"):
        pad_edges(image, 4, "reflect")
