"""A run's settings: one YAML file, validated before anything starts, frozen in the run folder."""

from pipeline.settings.changes import changed
from pipeline.settings.documentation import documented_settings
from pipeline.settings.hooks import HookSettings
from pipeline.settings.loading import dump_settings, load_settings, preset_comment, preset_names, validate_settings
from pipeline.settings.schema import (
    DATASETS,
    DataSettings,
    FrozenProblem,
    MetricSettings,
    NetworkSettings,
    ProblemSettings,
    Settings,
    SlurmSettings,
    TrainingSettings,
    WorkerSettings,
)
from pipeline.settings.search import SearchSettings, budget_ladder

__all__ = [
    "DATASETS",
    "DataSettings",
    "FrozenProblem",
    "HookSettings",
    "MetricSettings",
    "NetworkSettings",
    "ProblemSettings",
    "SearchSettings",
    "Settings",
    "SlurmSettings",
    "TrainingSettings",
    "WorkerSettings",
    "budget_ladder",
    "changed",
    "documented_settings",
    "dump_settings",
    "load_settings",
    "preset_comment",
    "preset_names",
    "validate_settings",
]
