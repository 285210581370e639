"""The settings of every inference are checked by name before anything is read, as those of a training are."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.engine.run.failures import find_input_error
from clinicalfmamba_nets.engine.run.workflows import open_bundle

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:parsing config_file")
BUNDLES = ("fusion_2d", "fusion_3d", "glioma_grading")
SHARED = {
    "device": ("cuda:77", "device 'cuda:77': expected a device of this machine"),
    "num_workers": (-1, "num_workers: expected a whole number of at least 0, found -1; the nearest right value is "),
    "register": ("affine", "register: expected one of none, rigid, found 'affine'; the nearest right value is "),
    "other_grid": ("foo", "other_grid: expected one of refuse, resample, found 'foo'; the nearest right value is "),
}
FUSION = {
    "preparation": ("bratz", "preparation: expected one of native, brats, found 'bratz'; the nearest right value is"),
    "brats_size": ([8], "brats_size: expected a list of "),
    "features": (0, "features: expected a whole number of at least 1, found 0"),
}
GRADING = {
    "section": ("validation", "section: expected one of testing, training, found 'validation'"),
    "spatial_dims": (4, "spatial_dims: expected 2 or 3, found 4"),
    "batch_size": (0, "batch_size: expected a whole number of at least 1, found 0"),
}
CASES = [
    (bundle, name, value, words)
    for bundle in BUNDLES
    for name, (value, words) in (SHARED | (GRADING if bundle == "glioma_grading" else FUSION)).items()
]


@pytest.mark.parametrize(("bundle", "name", "value", "words"), CASES, ids=[f"{row[0]}-{row[1]}" for row in CASES])
def test_a_wrong_setting_is_named_with_the_nearest_right_one(bundle, name, value, words):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (MONAI wraps it)
        open_bundle(bundle, "inference", overrides={name: value})
    assert str(find_input_error(caught.value)).startswith(words)


@pytest.mark.parametrize("bundle", ["fusion_2d", "fusion_3d"])
def test_an_evaluation_checks_its_own_settings_too(bundle):
    for name, value in (("preparation", "bratz"), ("metrics", ["foo"]), ("runs", [])):
        with pytest.raises(Exception) as caught:  # noqa: PT011  (MONAI wraps it)
            open_bundle(bundle, "inference", ["evaluate"], {name: value})
        assert str(find_input_error(caught.value)).startswith(name[:6])
