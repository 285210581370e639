"""A training takes any loss of (pred, image), and says in one line what it needs of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clinicalfmamba_nets.engine import TrackedLoss
from clinicalfmamba_nets.errors import FusionInputError
from clinicalfmamba_nets.losses import FusionLoss

PRED, IMAGE = torch.full((2, 1, 16, 16), 0.5, requires_grad=True), torch.rand(2, 2, 16, 16)


class Own(nn.Module):
    """A loss of the user's own."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, pred, image):
        return self.result(pred, image)


def test_an_own_loss_is_its_only_term():
    loss = TrackedLoss(Own(lambda pred, image: (pred - image.mean(1, keepdim=True)).abs().mean()))
    loss(PRED, IMAGE).backward()
    assert set(loss.latest) == {"loss"} and loss.pairs == 2 and PRED.grad.any()
    function = TrackedLoss(lambda pred, image: (pred - image).square().mean().reshape(1))
    assert function(PRED, IMAGE).shape == ()


def test_named_terms_stay_named():
    loss = TrackedLoss(FusionLoss())
    assert loss(PRED, IMAGE).item() == pytest.approx(FusionLoss()(PRED, IMAGE).item())
    assert {"loss", "pixel", "gradient", "ssim"} <= set(loss.latest)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (lambda pred, image: (pred - image).abs(), r"a tensor of shape \(2, 2, 16, 16\)"),
        (lambda pred, image: 0.5, "found 0.5"),
        (lambda pred, image: pred.detach().mean(), "a number without a gradient"),
        (lambda pred, image: pred @ image.flatten(), "found RuntimeError: "),
        (lambda pred: pred.mean(), "found TypeError: "),
        (lambda pred, image: image.mask, "found AttributeError: "),
    ],
)
def test_what_a_loss_must_return_is_told(result, told):
    with pytest.raises(FusionInputError, match=f"fusion_loss: expected forward\\(pred, image\\).*{told}"):
        TrackedLoss(Own(result))(PRED, IMAGE)


def test_terms_that_fail_are_told_in_one_line():
    with pytest.raises(FusionInputError, match="loss term information: expected at least 17 pixels .* found 16 x 16"):
        TrackedLoss(FusionLoss(information_weight=1.0))(PRED, IMAGE)
    loss = FusionLoss()
    loss.terms = lambda pred, image: image.mask
    with pytest.raises(FusionInputError, match="fusion_loss: expected .* found AttributeError: "):
        TrackedLoss(loss)(PRED, IMAGE)


def test_half_an_interface_is_refused():
    half = FusionLoss()
    half.weights = None
    with pytest.raises(FusionInputError, match="terms.* and weights of them, found one without the other"):
        TrackedLoss(half)
    less = FusionLoss()
    del less.weights["ssim"]
    with pytest.raises(FusionInputError, match="a weight for each of its terms, found none for ssim"):
        TrackedLoss(less)(PRED, IMAGE)
    with pytest.raises(FusionInputError, match="fusion_loss: .* found str"):
        TrackedLoss("l1")
