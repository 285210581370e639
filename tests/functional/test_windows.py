"""Windows and local statistics: numbers against scipy and numpy, shapes, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clinicalfmamba_nets.functional.windows import box_window, filter_separable, gaussian_window, local_moments

PAD_MODES = [("zeros", "constant"), ("reflect", "mirror"), ("valid", "mirror")]


def test_gaussian_equals_scipy_impulse_response():
    impulse = np.zeros(11)
    impulse[5] = 1
    expected = ndimage.gaussian_filter1d(impulse, 1.5, truncate=5 / 1.5)
    np.testing.assert_allclose(gaussian_window(11, 1.5, torch.float64).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("spatial", [(15, 17), (11, 12, 13)])
@pytest.mark.parametrize(
    "padding_mode, scipy_mode", [("zeros", "constant"), ("reflect", "mirror"), ("valid", "mirror")]
)
def test_filter_equals_scipy(spatial, padding_mode, scipy_mode):
    image = torch.rand(2, 2, *spatial, dtype=torch.float64)
    window = torch.tensor([0.5, -0.25, 0.125, 1.0, 0.0], dtype=torch.float64)
    filtered = filter_separable(image, window, padding_mode)
    expected = image[1, 0].numpy()
    for axis in range(len(spatial)):
        expected = ndimage.correlate1d(expected, window.numpy(), axis=axis, mode=scipy_mode)
    if padding_mode == "valid":
        expected = expected[(slice(2, -2),) * len(spatial)]
    np.testing.assert_allclose(filtered[1, 0].numpy(), expected, atol=1e-12)


def test_moments_equal_numpy_over_a_box():
    image_a, image_b = torch.rand(2, 1, 1, 3, 3, dtype=torch.float64)
    moments = local_moments(image_a, image_b, box_window(3, torch.float64))
    flat_a, flat_b = image_a.flatten().numpy(), image_b.flatten().numpy()
    expected = np.cov(flat_a, flat_b, ddof=0)
    assert moments.mean_a.item() == pytest.approx(flat_a.mean())
    assert moments.mean_b.item() == pytest.approx(flat_b.mean())
    assert moments.variance_a.item() == pytest.approx(expected[0, 0])
    assert moments.variance_b.item() == pytest.approx(expected[1, 1])
    assert moments.covariance.item() == pytest.approx(expected[0, 1])


def test_moments_are_differentiable_and_keep_dtype():
    image = torch.rand(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: local_moments(value, value.flip(2), box_window(3)).covariance, image)
    assert local_moments(image.float(), image.float(), gaussian_window(3, 1.0)).mean_a.dtype == torch.float32


def test_bad_arguments_are_named():
    image = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"\(4, 4\) is smaller than the window of 5"):
        filter_separable(image, box_window(5))
    with pytest.raises(ValueError, match="window of 4 taps has no center"):
        filter_separable(image, box_window(4), "zeros")
    with pytest.raises(ValueError, match="agree in shape"):
        local_moments(image, image[:, :, 1:], box_window(3))
    with pytest.raises(ValueError, match="sigma above 0, got 3 and 0"):
        gaussian_window(3, 0)
