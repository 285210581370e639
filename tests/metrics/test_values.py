"""Metric values against independent implementations: scikit-image, scipy, pytorch-msssim, and programs named below."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as package_ms_ssim
from scipy import ndimage, signal, stats
from skimage.measure import shannon_entropy
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clinicalfmamba_nets import metrics

# Printed by torchmetrics 1.9.0 (PSNR, SSIM), piq 0.8.0 (FSIM without color, VIFp) and phasepack 1.5 with OpenCV's
# Scharr to 16 bit unsigned (FSIM published) for `large_triple`, to each source.
TORCHMETRICS_PSNR = (19.29279, 15.51692)
TORCHMETRICS_SSIM = (0.8795381, 0.7024432)
PIQ_FSIM = (0.9098307, 0.6334731)
PIQ_VIF = (0.5216511, 0.3820242)
PHASEPACK_FSIM = (0.9507300, 0.8571139)


@pytest.mark.parametrize(
    "compute, expected, options",
    [
        (metrics.compute_psnr, TORCHMETRICS_PSNR, {}),
        (metrics.compute_ssim, TORCHMETRICS_SSIM, {}),
        (metrics.compute_fsim, PIQ_FSIM, {}),
        (metrics.compute_fsim, PHASEPACK_FSIM, {"variant": "published"}),
        (metrics.compute_vif, PIQ_VIF, {}),
    ],
    ids=["psnr", "ssim", "fsim", "fsim_published", "vif"],
)
def test_values_of_other_packages(compute, expected, options, large_triple):
    scores = compute(*large_triple, **options)
    assert (scores.a.item(), scores.b.item()) == pytest.approx(expected, abs=2e-5)
    both = sum(expected) if compute is metrics.compute_vif else sum(expected) / 2
    assert scores.value.item() == pytest.approx(both, abs=2e-5)
    assert scores.minimum.item() == pytest.approx(min(expected), abs=2e-5)


def test_psnr_and_entropy_equal_scikit_image(triple):
    fused, tissue, _ = triple.arrays()
    psnr = metrics.compute_psnr(*triple).a.item()
    assert psnr == pytest.approx(peak_signal_noise_ratio(tissue, fused, data_range=1.0))
    assert metrics.compute_entropy(*triple).value.item() == pytest.approx(shannon_entropy(np.rint(fused * 255)))
    noisy = triple.fused + 1e-6 * torch.rand(triple.fused.shape, generator=torch.Generator().manual_seed(0))
    assert metrics.compute_entropy_float(noisy, *triple[1:]).value.item() == pytest.approx(
        shannon_entropy(noisy.numpy())
    )


def test_ssim_inside_a_region_equals_scikit_image(triple):
    fused, tissue, _ = triple.arrays()
    _, full = structural_similarity(
        fused, tissue, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    region = torch.zeros_like(triple.fused, dtype=torch.bool)
    region[..., 10:40, 20:50] = True
    assert metrics.compute_ssim(*triple, regions=region).a.item() == pytest.approx(full[10:40, 20:50].mean(), abs=1e-5)


@pytest.mark.parametrize("size", [(176, 193), (301, 180)])
def test_ms_ssim_equals_pytorch_msssim(size):
    generator = torch.Generator().manual_seed(1)
    source = torch.nn.functional.interpolate(torch.rand(1, 1, 23, 24, generator=generator), size=size, mode="bicubic")
    source = metrics.scores.round_to_8_bit(source)
    fused = metrics.scores.round_to_8_bit(0.8 * source + 0.1)
    expected = package_ms_ssim(fused, source, data_range=1.0).item()
    assert metrics.compute_ms_ssim(fused, source, source).a.item() == pytest.approx(expected, abs=1e-5)


def similarity_by_hand(fused, source):
    """SSIM and contrast maps of a volume over whole windows, by scipy."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))

    def mean(volume):
        for axis in range(3):
            volume = ndimage.correlate1d(volume, taps / taps.sum(), axis)
        return volume[5:-5, 5:-5, 5:-5]

    means = mean(fused), mean(source)
    spread = mean(fused * fused) - means[0] ** 2 + mean(source * source) - means[1] ** 2
    contrast = (2 * (mean(fused * source) - means[0] * means[1]) + 0.03**2) / (spread + 0.03**2)
    return (2 * means[0] * means[1] + 0.01**2) / (means[0] ** 2 + means[1] ** 2 + 0.01**2) * contrast, contrast


def test_volumes_are_scored_in_three_dimensions():
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(2, 1, 7, 6, 8, generator=generator)
    pair = torch.nn.functional.interpolate(coarse, size=(28, 24, 32), mode="trilinear")
    source, fused = metrics.scores.round_to_8_bit(pair).split(1)
    a, b = (volume[0, 0].double().numpy() for volume in (fused, source))
    assert metrics.compute_psnr(fused, source, source).a.item() == pytest.approx(-10 * np.log10(((a - b) ** 2).mean()))
    whole = similarity_by_hand(*(np.pad(volume, 5, mode="reflect") for volume in (a, b)))[0]
    assert metrics.compute_ssim(fused, source, source).a.item() == pytest.approx(whole.mean(), abs=1e-5)
    halves = [volume.reshape(14, 2, 12, 2, 16, 2).mean(axis=(1, 3, 5)) for volume in (a, b)]
    terms = [max(0, similarity_by_hand(a, b)[1].mean()), max(0, similarity_by_hand(*halves)[0].mean())]
    weights = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856) * (0.0448 + 0.2856 + 0.3001 + 0.2363 + 0.1333)
    assert metrics.compute_ms_ssim(fused, source, source).a.item() == pytest.approx(
        float(np.prod(np.array(terms) ** weights)), abs=1e-5
    )
    levels = np.bincount(np.rint(a * 255).astype(int).ravel())
    share = levels[levels > 0] / a.size
    assert metrics.compute_entropy(fused, source, source).value.item() == pytest.approx(-(share * np.log2(share)).sum())
    noisy = fused + 1e-5 * torch.rand(fused.shape, generator=generator)
    values, counts = np.unique(noisy.numpy(), return_counts=True)
    expected = -(counts / counts.sum() * np.log2(counts / counts.sum())).sum()
    assert metrics.compute_entropy_float(noisy, source, source).value.item() == pytest.approx(expected)
    assert len(values) > 10_000


def sobel_by_hand(levels):
    return ndimage.sobel(levels, 0, mode="constant"), ndimage.sobel(levels, 1, mode="constant")


def edges_by_hand(fused, source):
    """Preservation of each source edge and its weight, pixel by pixel, from the formulas of Xydeas and Petrovic."""
    (fused_v, fused_h), (source_v, source_h) = sobel_by_hand(np.rint(fused * 255)), sobel_by_hand(np.rint(source * 255))
    kept = np.zeros(fused.shape)
    for index in np.ndindex(fused.shape):
        g_f, g_s = math.hypot(fused_v[index], fused_h[index]), math.hypot(source_v[index], source_h[index])
        ratio = 1.0 if g_f == g_s else min(g_f, g_s) / max(g_f, g_s)
        angles = [
            math.atan(v / h) if h else math.pi / 2
            for v, h in ((fused_v[index], fused_h[index]), (source_v[index], source_h[index]))
        ]
        alignment = 1 - abs(angles[0] - angles[1]) / (math.pi / 2)
        kept[index] = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + math.exp(-22 * (alignment - 0.8)))
    return kept, np.hypot(source_v, source_h), np.hypot(fused_v, fused_h)


def test_edges_kept_lost_and_invented(triple):
    fused, tissue, bone = triple.arrays()
    (kept_a, weight_a, strength), (kept_b, weight_b, _) = edges_by_hand(fused, tissue), edges_by_hand(fused, bone)
    total = (weight_a + weight_b).sum()
    qabf = (kept_a * weight_a + kept_b * weight_b).sum() / total
    invented = (strength > weight_a) & (strength > weight_b)
    n_abf = (((1 - kept_a) * weight_a + (1 - kept_b) * weight_b) * invented).sum() / total
    scores = metrics.compute_qabf(*triple)
    assert scores.value.item() == pytest.approx(qabf, abs=1e-9)
    assert scores.a.item() == pytest.approx((kept_a * weight_a).sum() / weight_a.sum(), abs=1e-9)
    assert 0 < n_abf == pytest.approx(metrics.compute_n_abf(*triple).value.item(), abs=1e-9)
    assert metrics.compute_l_abf(*triple).value.item() == pytest.approx(1 - qabf - n_abf, abs=1e-9)


def vif_by_hand(source, fused):
    """VIFp with whole two-dimensional windows, from the formulas of Sheikh and Bovik."""
    kept = present = 0.0
    for scale, size in enumerate((17, 9, 5, 3)):
        line = signal.windows.gaussian(size, size / 5)
        window = np.outer(line, line) / line.sum() ** 2
        smooth = lambda image, window=window: signal.convolve2d(image, window, mode="valid")  # noqa: E731
        if scale:
            source, fused = smooth(source)[::2, ::2], smooth(fused)[::2, ::2]
        mean_s, mean_f = smooth(source), smooth(fused)
        var_s, var_f = smooth(source**2) - mean_s**2, smooth(fused**2) - mean_f**2
        both = smooth(source * fused) - mean_s * mean_f
        for v_s, v_f, cov in zip(var_s.ravel(), var_f.ravel(), both.ravel(), strict=True):
            if v_s < 1e-10:
                continue
            gain = cov / (v_s + 1e-10) if v_f >= 1e-10 else 0.0
            rest = v_f - gain * cov if gain >= 0 else v_f
            gain = max(gain, 0.0)
            kept += math.log(1 + gain**2 * v_s / (max(rest, 1e-10) + 2))
            present += math.log(1 + v_s / 2)
    return kept / present


def test_vif_equals_the_formulas(triple):
    """torchmetrics 1.9.0 adds the noise of 0..255 to images of any range, and so orders those in 0..1 backwards."""
    fused, tissue, bone = (image * 255 for image in triple.arrays())
    scores = metrics.compute_vif(*triple)
    assert scores.a.item() == pytest.approx(vif_by_hand(tissue, fused), abs=1e-8)
    assert scores.b.item() == pytest.approx(vif_by_hand(bone, fused), abs=1e-8)


def test_fsim_does_not_know_of_a_half_turn(triple):
    """image-similarity-measures 0.3.6 loses gradients of one direction: turned by 180 degrees its FSIM is another."""
    turned = metrics.compute_fsim(*(image.flip(2, 3) for image in triple))
    torch.testing.assert_close(turned.value, metrics.compute_fsim(*triple).value, atol=1e-6, rtol=0)


def test_correlations_equal_scipy(triple):
    fused, tissue, bone = (image.ravel() for image in triple.arrays())
    cc, scd = metrics.compute_cc(*triple), metrics.compute_scd(*triple)
    assert cc.a.item() == pytest.approx(stats.pearsonr(fused, tissue).statistic)
    assert scd.a.item() == pytest.approx(stats.pearsonr(fused - bone, tissue).statistic)
    assert scd.value.item() == pytest.approx(scd.a.item() + stats.pearsonr(fused - tissue, bone).statistic)


def test_statistics_equal_numpy(triple):
    levels = triple.arrays()[0] * 255
    down, right = np.diff(levels, axis=0), np.diff(levels, axis=1)
    assert metrics.compute_sd(*triple).value.item() == pytest.approx(levels.std())
    frequency = math.sqrt((down**2).mean() + (right**2).mean())
    assert metrics.compute_sf(*triple).value.item() == pytest.approx(frequency)
    gradient = np.sqrt((down[:, :-1] ** 2 + right[:-1] ** 2) / 2).mean()
    assert metrics.compute_ag(*triple).value.item() == pytest.approx(gradient)


def test_mutual_information_is_bounded_by_the_entropies(triple):
    scores = metrics.compute_mi(*triple)
    fused, tissue, _ = triple.arrays()
    counts = np.histogram2d(fused.ravel(), tissue.ravel(), bins=[np.arange(257) / 255 - 0.5 / 255] * 2)[0]
    joint = counts / counts.sum()
    expected = (
        joint[joint > 0] * np.log2((joint / np.outer(joint.sum(1), joint.sum(0)).clip(1e-300))[joint > 0])
    ).sum()
    assert scores.a.item() == pytest.approx(expected)
    assert scores.value.item() == pytest.approx(scores.a.item() + scores.b.item())
