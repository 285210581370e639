"""A picture of what was graded: the image of the slice that counted most, and a saliency map over it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch import nn

from clinicalfmamba_nets.engine.pictures.contact_sheet import write_contact_sheet
from clinicalfmamba_nets.io import case_name

LAYER = "layer4"  # the last block of MONAI's ResNet
LEAST_SIDE = 256  # pixels of a picture; smaller images are enlarged by a whole number


class GradingPreview:
    """Write `PATIENT_preview.png` for each patient: every channel of the image, and the saliency over the first.

    At its foot stand the score of the slice and that nothing here is for diagnosis.

    Of a patient's slices the one of the highest score is shown, of a volume the axial slice of the greatest saliency.

    Source: Selvaraju et al., "Grad-CAM", arXiv 1610.02391, in MONAI's implementation, for the logit of high grade: it
    tells where the network looked, not why, and is coarse: the last block sees the image at 1/32 of its size.

    Args:
        output_dir: where to.
        network: the grading network.
        name: the input, for the titles.
        enabled: whether to write at all.
    """

    def __init__(
        self, output_dir: str | os.PathLike, network: nn.Module, name: str = "image", enabled: bool = True
    ) -> None:
        self.output_dir, self.network, self.name, self.enabled = Path(output_dir), network, name, enabled
        self.best: dict[str, tuple[float, int]] = {}
        self._seen = 0

    def attach(self, engine: Engine) -> None:
        """Follow `engine`, an evaluator whose loader keeps the order of its data set."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.best, self._seen = {}, 0

    def collect(self, engine: Engine) -> None:
        """Remember the item of the highest score of each patient."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            score = float(output["pred"])
            if item["patient"] not in self.best or score > self.best[item["patient"]][0]:
                self.best[item["patient"]] = (score, self._seen)
            self._seen += 1

    def finish(self, engine: Engine) -> None:
        """Write the pictures."""
        if not self.enabled:
            return
        from monai.visualize import GradCAM

        cam = GradCAM(nn_module=self.network, target_layers=LAYER)
        for patient, (score, index) in self.best.items():
            item = engine.state.dataloader.dataset[index]
            image = item["image"][None].to(next(self.network.parameters()).device)
            with torch.enable_grad():
                salient = torch.as_tensor(cam(x=image, class_idx=0))[0, 0].detach().cpu().numpy()
            channels = image[0].cpu().numpy()
            if salient.ndim == 3:
                place = int(salient.max((0, 1)).argmax())
                salient, channels = salient[..., place], channels[..., place]
            pictures = [_upright(picture) for picture in (*channels, overlay(channels[0], salient))]
            titles = self.name.split("_") if len(channels) == 2 else [self.name]
            path = self.output_dir / f"{case_name(str(patient))}_preview.png"
            words = f"research only, not for diagnosis - probability of high grade {score:.3f} - right side on the left"
            write_contact_sheet([(str(item["case"]), pictures)], [*titles, "saliency"], path, words)


def overlay(image: NDArray, salient: NDArray) -> NDArray:
    """Lay a saliency map, scaled to its own range, in red over a grey image.

    Args:
        image: (X, Y) in [0, 1].
        salient: (X, Y).

    Returns:
        (X, Y, 3) in [0, 1].

    Example:
        >>> overlay(np.zeros((1, 2)), np.array([[0.0, 4.0]])).tolist()
        [[[0.0, 0.0, 0.0], [0.6, 0.0, 0.0]]]
    """
    low, high = float(salient.min()), float(salient.max())
    share = 0.6 * (salient - low)[..., None] / (high - low if high > low else 1.0)
    return (1 - share) * image[..., None] + share * np.array([1.0, 0.0, 0.0])


def _upright(picture: NDArray) -> NDArray:
    """Turn (X, Y, ...), right and anterior, for the screen: the nose up, the patient's right on the left; enlarged."""
    factor = -(-LEAST_SIDE // max(picture.shape[:2]))
    return np.flip(np.swapaxes(picture, 0, 1), (0, 1)).repeat(factor, 0).repeat(factor, 1)
