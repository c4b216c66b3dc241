"""Which trainings the table of results needs: the poster's baselines, and a run's incumbent, with several seeds.

Each is one training for the largest budget on training plus validation data, in a file of its own (see
`pipeline.storage.retrained`); what has finished is never trained again.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RunError
from pipeline.files import publish_json, read_fresh, read_json
from pipeline.launch.local_workers import process_file
from pipeline.records import AttemptEnd, AttemptHeader, ConfigId, Configuration, config_name, parse_config_name
from pipeline.run.folder import RunFolder
from pipeline.run.history import read_history
from pipeline.settings import Settings, budget_ladder
from pipeline.storage.curves import read_attempt_table
from pipeline.storage.retrained import BASELINES, INCUMBENT, SILENT_S, baseline_path, incumbent_path

SEEDS = (0, 1, 2)
# States of trainings that nobody need begin, and what is said of those that have ended otherwise.
UNDER_WAY = ("finished", "running", "submitted")
ENDED = {"handed_back": "handed back", "died": "died", "crashed": "crashed", "broken": "broken"}
# Arguments of the processes that train here.
COMMANDS = {b"retrain-incumbent", b"baselines"}
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


def previous_attempt(retraining: Retraining, queue: Collection[str] | None = None) -> tuple[int, str]:
    """(number, state) of what its file holds; (0, "missing"), also when it holds another configuration or budget.

    States: finished, handed_back, crashed, broken, running, died.

    Args:
        queue: the ids of the jobs that wait or run; None: nobody knows.
    """
    found = _read(retraining)
    if found is None:
        return 0, "missing"
    header, last, end = found
    if end is not None:
        return header.attempt, end.status
    return header.attempt, "running" if _is_alive(header, last, queue) else "died"


def _read(retraining: Retraining) -> tuple[AttemptHeader, float, AttemptEnd | None] | None:
    """Of its file, if it is of this training: header, when something was last written, and end."""
    try:
        header, rows, end = read_fresh(retraining.path, read_attempt_table, wait_s=0.0)
    except (OSError, RunError):
        return None
    wanted = (dict(retraining.configuration), retraining.budget, retraining.budget_unit)
    if (dict(header.configuration), header.budget, header.budget_unit) != wanted:
        return None
    return header, max(header.started, float(rows["wall_time"][-1]) if len(rows) else 0.0), end


def _is_alive(header: AttemptHeader, last: float, queue: Collection[str] | None) -> bool:
    """Whether the attempt of a file without an end goes on: its job or process tells, else how long it is silent."""
    if header.slurm_job_id and queue is not None:
        return header.slurm_job_id in queue
    pid = header.worker.split("-")[-2:][0]  # see `worker_identity`
    if not header.slurm_job_id and header.host == platform.node().split(".")[0] and pid.isdigit():
        arguments = process_file(int(pid), "cmdline").split(b"\0")
        if arguments == [b""]:
            return False
        if COMMANDS & set(arguments):  # another program may have its number by now
            return True
    return time.time() - last < SILENT_S


def state_of(retraining: Retraining, queue: Collection[str] | None) -> str:
    """As `previous_attempt`, or "submitted": its job is in the queue and has not begun, or not begun again."""
    state = previous_attempt(retraining, queue)[1]
    is_waiting = state not in UNDER_WAY and queue is not None and submitted_as(retraining) in queue
    return "submitted" if is_waiting else state


def jobs_of(retraining: Retraining) -> set[str]:
    """The jobs that may be at it: the one that was submitted last, and the one that its file names."""
    found = _read(retraining)
    jobs = {submitted_as(retraining) or "", found[0].slurm_job_id if found else ""}
    return jobs - {""}


def missing(plan: Iterable[Retraining], queue: Collection[str] | None = None) -> list[Retraining]:
    """The trainings that have neither finished nor are going on."""
    return [each for each in plan if state_of(each, queue) not in UNDER_WAY]


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


def summary(plan: Iterable[Retraining], queue: Collection[str] | None = None) -> str:
    """How far the trainings are, and what became of those that ended without finishing, for a person."""
    states = Counter(state_of(each, queue) for each in plan)
    todo = states.total() - sum(states[state] for state in UNDER_WAY)
    submitted = f"{states['submitted']} submitted, " if states["submitted"] else ""
    ended = ", ".join(f"{states[state]} {said}" for state, said in ENDED.items() if states[state])
    return (
        f"Trainings: {states['finished']} of {states.total()} finished, {states['running']} running, {submitted}"
        f"{todo} to do{f' ({ended})' if ended else ''}."
    )
