"""The conventions of the literature against plain re-computations of their definitions."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.metrics import conventions


def levels(triple):
    """The three images as floats in 0..255, as CDDFuse reads them."""
    return [np.rint(image * 255) for image in triple.arrays()]


def plain_entropy(image):
    share = np.bincount(image.astype(np.uint8).ravel()) / image.size
    return -(share[share > 0] * np.log2(share[share > 0])).sum()


def plain_information(first, second):
    """Mutual information in nats of two images of whole numbers."""
    joint = np.histogram2d(first.ravel(), second.ravel(), bins=256, range=[[-0.5, 255.5]] * 2)[0] / first.size
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return (joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum()


def plain_fidelity(source, fused):
    """VIFp of one source, in logarithms of any base."""
    kept = present = 0.0
    for scale in range(1, 5):
        size = 2 ** (5 - scale) + 1
        line = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * (size / 5) ** 2))
        window = np.outer(line, line) / np.outer(line, line).sum()
        if scale > 1:
            source, fused = (signal.convolve2d(image, window, "valid")[::2, ::2] for image in (source, fused))
        blur = partial(signal.convolve2d, in2=window, mode="valid")
        mean_a, mean_b = blur(source), blur(fused)
        var_a = np.maximum(blur(source**2) - mean_a**2, 0)
        var_b = np.maximum(blur(fused**2) - mean_b**2, 0)
        covariance = blur(source * fused) - mean_a * mean_b
        gain = covariance / (var_a + 1e-10)
        rest = var_b - gain * covariance
        gain[var_a < 1e-10], rest[var_a < 1e-10], var_a[var_a < 1e-10] = 0, var_b[var_a < 1e-10], 0
        gain[var_b < 1e-10], rest[var_b < 1e-10] = 0, 0
        rest[gain < 0], gain[gain < 0] = var_b[gain < 0], 0
        kept += np.log10(1 + gain**2 * var_a / (np.maximum(rest, 1e-10) + 2)).sum()
        present += np.log10(1 + var_a / 2).sum()
    return kept / present


def test_cddfuse_equals_a_plain_recomputation(triple):
    fused, tissue, bone = levels(triple)
    found, _ = conventions.score_by_convention("cddfuse", *(image[0] for image in triple))
    old = {"data_range": 2.0}  # what scikit-image took for floats of unknown range
    similar = structural_similarity(fused, tissue, **old) + structural_similarity(fused, bone, **old)
    assert found["SSIM"] == pytest.approx(similar, abs=1e-9)
    assert found["EN"] == pytest.approx(plain_entropy(fused))
    assert found["SD"] == pytest.approx(fused.std())
    rows, columns = np.diff(fused, axis=0), np.diff(fused, axis=1)
    assert found["SF"] == pytest.approx(math.sqrt((rows**2).mean() + (columns**2).mean()))
    assert found["MI"] == pytest.approx(plain_information(fused, tissue) + plain_information(fused, bone))
    added = (
        np.corrcoef((fused - bone).ravel(), tissue.ravel())[0, 1],
        np.corrcoef((fused - tissue).ravel(), bone.ravel()),
    )
    assert found["SCD"] == pytest.approx(added[0] + added[1][0, 1])
    assert found["VIF"] == pytest.approx(plain_fidelity(tissue, fused) + plain_fidelity(bone, fused), rel=1e-6)
    assert found["Qabf"] == pytest.approx(plain_edges(fused, tissue, bone), abs=1e-3)


def plain_edges(*images):
    """Qabf by the formulas of Xydeas and Petrovic."""
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    edges = []
    for image in images:
        x, y = (ndimage.correlate(image, part, mode="constant") for part in (kernel, kernel.T))
        angle = np.where(x == 0, np.pi / 2, np.arctan(y / np.where(x == 0, 1, x)))
        edges.append((np.hypot(x, y), angle))
    (strength, angle), kept, total = edges[0], 0.0, 0.0
    for own, turn in edges[1:]:
        larger = np.maximum(own, strength)
        ratio = np.where(larger > 0, np.minimum(own, strength) / np.where(larger > 0, larger, 1), 1)
        alike = 1 - abs(turn - angle) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (alike - 0.8)))
        kept, total = kept + (quality * own).sum(), total + own.sum()
    return kept / total


def test_the_convention_changes_the_number_and_the_choice_is_checked(triple):
    images = [image[0] for image in triple]
    ours, _ = conventions.score_by_convention("ours", *images, names=["ssim"])
    summed, _ = conventions.score_by_convention("cddfuse", *images)
    assert abs(summed["SSIM"] - 2 * ours["ssim"]) > 0.05
    paper, _ = conventions.score_by_convention("paper", *images)
    assert {"psnr", "ssim", "fmi", "fsim_published", "entropy_float"} <= set(paper) and "vif" not in paper
    with pytest.raises(FusionInputError, match="convention: expected one of ours, paper, cddfuse, found 'mine'"):
        conventions.score_by_convention("mine", *images)
    with pytest.raises(FusionInputError, match="cddfuse's SSIM: expected images of at least 7 pixels"):
        conventions.compute_ssim_cddfuse(*torch.rand(3, 1, 1, 6, 9))
