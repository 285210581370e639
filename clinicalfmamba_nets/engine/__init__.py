"""What drives a run: bundles, handlers, checkpoints, previews, reports, evaluation. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loading on first use keeps `engine.bundles` free of torch, so that the command line can start without it.
_HOMES = {
    "averaging": ("AverageHandler", "WeightAverage"),
    "batches": ("TrackedLoss", "VolumeInferer", "WholeImageInferer", "prepare_fusion_batch"),
    "bundles": ("find_bundle", "list_bundles", "open_bundle", "run_bundle"),
    "checkpoints": ("TrainingCheckpoint",),
    "comparison": ("baseline_networks", "compared_networks", "trap_networks"),
    "curves": ("CurvePlot", "TensorBoardLog", "plot_history"),
    "distributed": ("is_main_process",),
    "evaluation": ("PairEvaluator", "evaluate_pairs", "evaluation_items"),
    "failures": ("find_input_error", "tell_errors_in_one_line"),
    "fusion_log": ("FusionLog",),
    "grading_experiment": ("GradingExperiment",),
    "grading_images": ("GradingImages", "LoadGradingImaged", "RandMirrord", "input_channels", "is_fused"),
    "grading_lists": (
        "grading_datalist",
        "positive_weight",
        "require_unseen",
        "shuffled_grades",
        "training_patients",
        "user_case",
    ),
    "grading_log": ("GradingLog",),
    "grading_patient": ("grade_patient", "patient_entry"),
    "grading_preview": ("GradingPreview",),
    "grading_runs": (
        "fusion_folder",
        "fusion_weights",
        "grading_cases",
        "require_fold",
        "require_grading_weights",
        "stage_network",
    ),
    "overrides": ("check_override_names", "check_overrides"),
    "pairs": ("add_phantoms", "pair_datalist", "training_datalist"),
    "plots": ("write_box_plot", "write_contact_sheet"),
    "preview": ("preview_image", "write_preview"),
    "progress": ("TrainingProgress",),
    "random_state": ("capture_random_state", "restore_random_state", "seed_ranks_apart"),
    "report": ("CaseResult", "RunReport", "machine_facts"),
    "tables": ("markdown_table", "summarize"),
    "tasks": ("choose", "default_dataset_dir", "weights_path"),
    "training_report": ("TrainingReport",),
    "weights": ("require_weights", "shipped_networks", "start_from_weights", "trained_networks"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
