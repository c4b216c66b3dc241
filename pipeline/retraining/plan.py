"""Which trainings the table of results needs: the poster's baselines, and a run's incumbent, with several seeds.

Each is one training for the largest budget on training plus validation data, in a file of its own (see
`pipeline.storage.retrained`); what has finished is never trained again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.files import publish_json, read_fresh, read_json
from pipeline.records import ConfigId, Configuration, config_name, parse_config_name
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history
from pipeline.settings import Settings, budget_ladder
from pipeline.storage.curves import read_attempt_table
from pipeline.storage.retrained import BASELINES, INCUMBENT, SILENT_S, baseline_path, incumbent_path

SEEDS = (0, 1, 2)
# A baseline's architecture is the poster's; how it is trained is the usual for such networks, and the same for all
# (cutout of half the image, as DeVries and Taylor 2017 found for CIFAR-10).
BASELINE_TRAINING: Configuration = {
    "learning_rate": 0.1,
    "batch_size": 128,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "mixup_alpha": 0.2,
    "death_rate": 0.0,
}
CUTOUT = {"digits": 4, "fashion_mnist": 14, "cifar10": 16, "cifar100": 16, "svhn": 16}


@dataclass(frozen=True)
class Retraining:
    """One training on training plus validation data.

    Attributes:
        model: a baseline's name, or "incumbent".
        config_id: the incumbent's; (0, 0, 0) for a baseline.
        budget: in `budget_unit`.
        path: its learning curve.
    """

    model: str
    config_id: ConfigId
    configuration: Configuration
    seed: int
    budget: float
    path: Path
    budget_unit: str = "seconds"

    @property
    def name(self) -> str:
        """For a person."""
        which = f" {config_name(self.config_id)}" if self.model == INCUMBENT else ""
        return f"{self.model}{which}, seed {self.seed}"

    @property
    def work(self) -> RunFolder:
        """Its checkpoints, until it has finished."""
        return RunFolder(self.path.parent / "work" / self.path.stem)


def plan_baselines(settings: Settings, results: Path, seeds: Iterable[int] = SEEDS) -> list[Retraining]:
    """Every baseline with every seed, in the order of the poster's table."""
    dataset = settings.data.dataset
    return [
        Retraining(
            model=model,
            config_id=(0, 0, 0),
            configuration={"model": model, **BASELINE_TRAINING, "cutout_length": CUTOUT[dataset]},
            seed=seed,
            budget=budget_ladder(settings.search)[-1],
            path=baseline_path(results, settings, model, seed),
            budget_unit=settings.search.budget_unit,
        )
        for model in BASELINES
        for seed in seeds
    ]


def config_of(name: str | None) -> ConfigId | None:
    """A configuration as a person writes it; raises RunError where it is none."""
    try:
        return None if name is None else parse_config_name(name)
    except ValueError:
        raise RunError(f"{name!r} is no configuration's id, such as 3-0-7 in the report") from None


def plan_incumbent(
    folder: RunFolder, settings: Settings, seeds: Iterable[int] = SEEDS, config_id: ConfigId | None = None
) -> list[Retraining]:
    """The run's incumbent on its largest budget, with every seed; with several objectives: the best of the first.

    Args:
        config_id: another configuration that has finished there; None: the incumbent.

    Raises:
        RunError: nothing, or not that configuration, has finished on the largest budget yet.
    """
    budget = budget_ladder(settings.search)[-1]
    history = read_history(folder)
    done = [r for r in history.results if r.loss is not None and r.budget == budget]
    done.sort(key=lambda r: (r.loss, r.config_id))
    if not done:
        raise RunError(
            f"Run {folder.run_id} has no incumbent on budget {budget:g} yet: nothing has finished there. "
            f"`tandem status {folder.shell_path}` shows how far it is."
        )
    incumbent = done[0].config_id
    chosen = incumbent if config_id is None else config_id
    if chosen not in [r.config_id for r in done]:
        names = ", ".join(config_name(r.config_id) for r in done[:10])
        raise RunError(f"{config_name(chosen)} has not finished on budget {budget:g}; the best that have: {names}")
    configuration = next(d.configuration for d in history.draws if d.config_id == chosen)
    return [
        Retraining(
            INCUMBENT,
            chosen,
            configuration,
            seed,
            budget,
            incumbent_path(folder.path, seed, None if chosen == incumbent else chosen),
            budget_unit=settings.search.budget_unit,
        )
        for seed in seeds
    ]


def previous_attempt(retraining: Retraining) -> tuple[int, str]:
    """(number, state) of what its file holds; (0, "missing"), also when it holds another configuration or budget.

    States: finished, handed_back, crashed, broken, running, silent (it died).
    """
    try:
        header, rows, end = read_fresh(retraining.path, read_attempt_table, wait_s=0.0)
    except (OSError, RunError):
        return 0, "missing"
    wanted = (dict(retraining.configuration), retraining.budget, retraining.budget_unit)
    if (dict(header.configuration), header.budget, header.budget_unit) != wanted:
        return 0, "missing"
    if end is not None:
        return header.attempt, end.status
    last = float(rows["wall_time"][-1]) if len(rows) else header.started
    return header.attempt, "running" if time.time() - max(last, header.started) < SILENT_S else "silent"


def missing(plan: Iterable[Retraining]) -> list[Retraining]:
    """The trainings that have neither finished nor are going on."""
    return [each for each in plan if previous_attempt(each)[1] not in ("finished", "running")]


def note_submitted(retraining: Retraining, job: str) -> None:
    """Note which job is to train it: until it has begun, nothing else tells that it is under way."""
    publish_json(_job_file(retraining), {"job": job, "training": retraining.name, "budget": retraining.budget})


def submitted_as(retraining: Retraining) -> str | None:
    """The job that was last submitted for this very training; None: none was."""
    try:
        noted = read_json(_job_file(retraining), wait_s=0)
        is_this = (noted["training"], noted["budget"]) == (retraining.name, retraining.budget)
        return str(noted["job"]) if is_this else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _job_file(retraining: Retraining) -> Path:
    return retraining.path.parent / "work" / f"{retraining.path.stem}.job.json"


def summary(plan: Iterable[Retraining], waiting: int = 0) -> str:
    """How far the trainings are, for a person.

    Args:
        waiting: those that have been submitted and have not begun.
    """
    states = Counter(previous_attempt(each)[1] for each in plan)
    total, finished, running = states.total(), states["finished"], states["running"]
    todo = total - finished - running - waiting
    submitted = f"{waiting} submitted, " if waiting else ""
    return f"Trainings: {finished} of {total} finished, {running} running, {submitted}{todo} to do."
