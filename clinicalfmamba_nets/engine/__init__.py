"""What drives a run: bundles, handlers, checkpoints, previews, reports, evaluation. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loading on first use keeps `engine.bundles` free of torch, so that the command line can start without it.
_HOMES = {
    "training.tracked_loss": ("TrackedLoss",),
    "training.averaging": ("AverageHandler", "WeightAverage"),
    "fusion.inferers": ("WholeImageInferer", "prepare_fusion_batch"),
    "fusion.slice_inferer": ("SliceInferer",),
    "fusion.volume_inferer": ("VolumeInferer",),
    "fusion.refinement": ("Refinement",),
    "run.workflows": ("find_bundle", "list_bundles", "open_bundle", "read_bundle", "run_bundle"),
    "training.checkpoints": ("TrainingCheckpoint",),
    "evaluation.comparison": ("baseline_networks", "compared_networks", "trap_networks"),
    "training.curves": ("CurvePlot", "TensorBoardLog", "plot_history"),
    "run.ranks": ("is_main_process",),
    "evaluation.evaluator": ("PairEvaluator", "evaluate_pairs"),
    "evaluation.score": ("fused_methods", "named_folders", "score_folders"),
    "evaluation.items": ("evaluation_items",),
    "run.failures": ("find_input_error", "tell_errors_in_one_line"),
    "exporting.loading": ("load_program", "read_facts"),
    "exporting.write": ("export_program",),
    "fusion.log": ("FusionLog",),
    "grading.experiment": ("GradingExperiment",),
    "grading.images": ("GradingImages", "LoadGradingImaged", "RandMirrord", "input_channels", "is_fused"),
    "grading.lists": (
        "grading_datalist",
        "positive_weight",
        "require_unseen",
        "shuffled_grades",
        "training_patients",
        "user_case",
    ),
    "grading.log": ("GradingLog",),
    "grading.patient": ("grade_patient", "patient_entry"),
    "grading.preview": ("GradingPreview",),
    "grading.runs": (
        "fusion_folder",
        "fusion_weights",
        "grading_cases",
        "require_fold",
        "require_grading_weights",
        "require_untrained",
        "stage_network",
    ),
    "run.checked_workflow": ("CheckedWorkflow",),
    "run.overrides": ("check_override_names", "check_overrides"),
    "fusion.lists": ("pair_datalist", "slices_folder"),
    "training.gradient_limit": ("GradientLimit",),
    "training.lists": ("add_heads", "add_phantoms", "add_plain_heads", "training_datalist"),
    "evaluation.plots": ("write_box_plot",),
    "pictures.contact_sheet": ("write_contact_sheet",),
    "pictures.pair": ("preview_image", "write_preview"),
    "training.progress": ("TrainingProgress",),
    "training.random_state": ("capture_random_state", "restore_random_state", "seed_ranks_apart"),
    "run.record": ("CaseResult", "RunReport", "machine_facts"),
    "evaluation.tables": ("markdown_table", "summarize"),
    "run.tasks": ("choose", "default_dataset_dir", "weights_path"),
    "training.report": ("TrainingReport",),
    "run.settings": ("check_settings", "rotation_prob"),
    "run.weights": ("pretrained", "require_weights", "shipped_networks", "start_from_weights", "trained_networks"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
