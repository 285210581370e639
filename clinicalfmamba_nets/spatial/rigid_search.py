"""ITK's search for a rotation and shift that let one volume tell most about another."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from clinicalfmamba_nets.io.transform_file import LPS
from clinicalfmamba_nets.spatial.similarity import Comparison

_logger = logging.getLogger("clinicalfmamba.registration")
Placed = tuple[np.ndarray, np.ndarray]

LEAST_SIDE = 4
_SAMPLES = 60_000
_STEPS = 100
_LEVER = 80.0  # mm, about the radius of a head: a rotation is worth the path it makes there


def as_itk(volume: np.ndarray, affine: np.ndarray) -> Any:
    """Return an ITK image in LPS with the brightest and darkest half percent clipped."""
    import itk

    itk.ProcessObject.SetGlobalWarningDisplay(False)
    low, high = np.percentile(volume[::2, ::2, ::2], (0.5, 99.9))
    clipped = np.clip(volume, low, high if high > low else volume.max()).astype(np.float32)
    image = itk.image_from_array(np.ascontiguousarray(clipped.T))
    place = LPS @ affine
    sides = np.linalg.norm(place[:3, :3], axis=0)
    image.SetSpacing(sides.tolist())
    image.SetOrigin(place[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(place[:3, :3] / sides)))
    return image


class RigidSearch:
    """The search for the best placement of a volume on another, on one level after another.

    Args:
        fixed: first volume, shape (X, Y, Z), and its affine.
        moving: second volume and its affine.
        center: of the rotation, RAS mm.
        seed: of the samples.
    """

    def __init__(self, fixed: Placed, moving: Placed, center: np.ndarray, seed: int) -> None:
        self.fixed, self.moving, self.seed = as_itk(*fixed), as_itk(*moving), seed
        self.center = LPS[:3, :3] @ center

    def best_start(self, starts: list[np.ndarray], distance: float, compare: Comparison) -> np.ndarray:
        """Search from every start on the coarsest level and keep the result that tells most."""
        found = [self.level(start, distance) for start in starts]
        return max([*found, *starts], key=lambda matrix: compare(matrix).information)

    def level(self, matrix: np.ndarray, distance: float) -> np.ndarray:
        """Search on one level, from one placement; where ITK finds no overlap, that placement is returned."""
        import itk

        kind = type(self.fixed)
        transform = self._transform(matrix)
        metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New()
        metric.SetNumberOfHistogramBins(32)
        method = itk.ImageRegistrationMethodv4[kind, kind].New()
        method.SetFixedImage(self.fixed)
        method.SetMovingImage(self.moving)
        method.SetMetric(metric)
        method.SetOptimizer(_optimizer(distance))
        method.SetInitialTransform(transform)
        method.InPlaceOn()
        self._sample(method, distance)
        try:
            method.Update()
        except RuntimeError as error:
            _logger.debug("no result at %s mm: %s", distance, error)
            return matrix
        result = np.eye(4)
        result[:3, :3] = itk.array_from_matrix(transform.GetMatrix())
        result[:3, 3] = list(transform.GetOffset())
        return LPS @ result @ LPS

    def _transform(self, matrix: np.ndarray) -> Any:
        import itk

        place = LPS @ matrix @ LPS
        transform = itk.Euler3DTransform[itk.D].New()
        transform.SetCenter(self.center.tolist())
        transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(place[:3, :3])), 1e-6)
        transform.SetTranslation((place[:3, :3] @ self.center + place[:3, 3] - self.center).tolist())
        return transform

    def _sample(self, method: Any, distance: float) -> None:
        """Smooth and thin out the images for a level, and draw the samples."""
        import itk

        sides, spacing = np.array(itk.size(self.fixed)), np.array(self.fixed.GetSpacing())
        factors = np.clip(np.round(distance / spacing), 1, np.maximum(1, sides // LEAST_SIDE))
        shrink = itk.FixedArray[itk.UI, 3]()
        for axis in range(3):
            shrink[axis] = int(factors[axis])
        method.SetNumberOfLevels(1)
        method.SetShrinkFactorsPerDimension(0, shrink)
        method.SetSmoothingSigmasPerLevel([distance / 2])
        method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
        share = _SAMPLES / float(np.prod(sides / factors))
        if share < 1:
            method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
            method.SetMetricSamplingPercentage(share)
            method.MetricSamplingReinitializeSeed(self.seed + 1)


def _optimizer(distance: float) -> Any:
    """Return a gradient descent whose steps shrink from half a sample's distance to a five hundredth."""
    import itk

    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New()
    optimizer.SetLearningRate(distance / 2)
    optimizer.SetMinimumStepLength(distance / 500)
    optimizer.SetRelaxationFactor(0.5)
    optimizer.SetNumberOfIterations(_STEPS)
    optimizer.SetReturnBestParametersAndValue(True)
    scales = itk.OptimizerParameters[itk.D](6)
    for number in range(6):
        scales.SetElement(number, _LEVER**2 if number < 3 else 1.0)
    optimizer.SetScales(scales)
    return optimizer
