"""A simulated search: brackets, workers, crashes and lost attempts on a made-up but plausible training problem.

It gives what a real run gives, in milliseconds, so that collection and analysis can be built and tested at any size.
Errors follow a power law towards a floor that depends on the configuration, and large models are slow: short budgets
mislead about long ones, as on the poster.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.records import ConfigId, Configuration, Value
from pipeline.settings import Settings, budget_ladder
from pipeline.settings.space import Hyperparameter, narrowed

CHANCE_ERROR = 0.9
LOST_SHARE, HANDED_BACK_SHARE, CRASH_SHARE = 0.03, 0.02, 0.02
MAX_PARAMETERS = 120e6
# (d + 1) points in each of two densities, for d = 17.
MODEL_POINTS = 36


@dataclass
class Try:
    """One attempt as it went: times in seconds since the search began, training in budget-clock seconds."""

    attempt: int
    worker: int
    dispatched_s: float
    inherited_s: float
    continued_from: str
    startup_s: float
    outcome: str = "finished"
    reason: str = ""
    trained_to_s: float = 0.0
    returned_s: float = 0.0


@dataclass
class Job:
    """One evaluation and its attempts."""

    config_id: ConfigId
    configuration: Configuration
    rung: int
    budget: float
    submitted_s: float = 0.0
    lower: Job | None = None
    tries: list[Try] = field(default_factory=list)
    loss: float | None = None
    exception: str | None = None
    finished_s: float | None = None


@dataclass
class DrawnConfiguration:
    """A configuration and how it was proposed."""

    config_id: ConfigId
    configuration: Configuration
    model_budget: float | None
    draw_budget: float
    results_seen: int
    drawn_s: float


@dataclass
class _Bracket:
    number: int
    sizes: list[int]
    first_rung: int
    stage: int = 0
    issued: int = 0
    done: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.stage >= len(self.sizes)


class SimulatedSearch:
    """Run a search to its end, or until `evaluations` results are in; the rest is then in flight.

    Attributes:
        draws, jobs: in the order in which they came to be; `results`: jobs in the order of their results.
    """

    def __init__(self, settings: Settings, seed: int, workers: int, evaluations: int | None = None) -> None:
        self.settings = settings
        self.ladder = budget_ladder(settings.search)
        self.space = narrowed(settings.space)
        self.rng = np.random.default_rng(seed)
        self.draws: list[DrawnConfiguration] = []
        self.jobs: list[Job] = []
        self.results: list[Job] = []
        self._observed: dict[int, list[tuple[float, np.ndarray]]] = {rung: [] for rung in range(len(self.ladder))}
        self._brackets: list[_Bracket] = []
        self._run(workers, evaluations)

    def _run(self, workers: int, evaluations: int | None) -> None:
        idle, running, now = list(range(workers))[::-1], list[tuple[float, int, Job]](), 0.0
        retry: list[Job] = []
        while evaluations is None or len(self.results) < evaluations:
            while idle and (job := retry.pop() if retry else self._next_job(now)) is not None:
                attempt = self._attempt(job, idle.pop(), now)
                heapq.heappush(running, (attempt.returned_s, len(job.tries) + 10 * len(self.jobs), job))
            if not running:
                break
            now, _, job = heapq.heappop(running)
            last = job.tries[-1]
            idle.append(last.worker)
            if last.outcome in ("lost", "handed_back"):
                retry.append(job)
            else:
                self._record(job, last)
        for _, _, job in running:  # the run goes on: what is in flight has not returned
            last = job.tries[-1]
            last.outcome, last.reason = "running", ""
            share = (now - last.dispatched_s) / max(last.returned_s - last.dispatched_s, 1e-9)
            last.trained_to_s = last.inherited_s + min(max(share, 0.0), 1.0) * (last.trained_to_s - last.inherited_s)
        self.ended_s = now

    def _next_job(self, now: float) -> Job | None:
        for bracket in self._brackets:
            if bracket.is_over:
                continue
            job = bracket.waiting.pop(0) if bracket.waiting else None
            if job is None and bracket.stage == 0 and bracket.issued < bracket.sizes[0]:
                job = self._draw(bracket, now)
            if job is not None:
                bracket.issued += 1
                job.submitted_s = now
                self.jobs.append(job)
                return job
        if len(self._brackets) < self.settings.search.iterations:
            self._brackets.append(self._new_bracket(len(self._brackets)))
            return self._next_job(now)
        return None

    def _new_bracket(self, number: int) -> _Bracket:
        # Algorithm 1 of Li et al. 2018, as hpbandster sizes it.
        rungs, eta = len(self.ladder), self.settings.search.eta
        stages = rungs - 1 - number % rungs
        first = math.floor(rungs / (stages + 1)) * eta**stages
        return _Bracket(number, [max(int(first / eta**i), 1) for i in range(stages + 1)], rungs - 1 - stages)

    def _draw(self, bracket: _Bracket, now: float) -> Job:
        usable = [rung for rung, seen in self._observed.items() if len(seen) >= MODEL_POINTS]
        is_model = self.settings.search.method == "bohb" and bool(usable)
        is_model = is_model and self.rng.random() >= self.settings.search.random_fraction
        unit = self.rng.random(len(self.space))
        if is_model:
            seen = sorted(self._observed[usable[-1]], key=lambda pair: pair[0])
            good = seen[: max(len(seen) * self.settings.search.top_n_percent // 100, 3)]
            unit = good[self.rng.integers(len(good))][1] + self.rng.normal(0, 0.08, len(self.space))
            unit = np.clip(np.abs(unit), 0, 1)
        config_id = (bracket.number, 0, bracket.issued)
        configuration = from_unit(self.space, unit)
        budget = self.ladder[bracket.first_rung]
        model_budget = self.ladder[usable[-1]] if is_model else None
        self.draws.append(DrawnConfiguration(config_id, configuration, model_budget, budget, len(self.results), now))
        return Job(config_id, configuration, bracket.first_rung, budget)

    def _attempt(self, job: Job, worker: int, now: float) -> Try:
        before = job.tries[-1] if job.tries else None
        continues = self.settings.search.promotion == "continue" and job.lower is not None
        if before is not None:
            interval = max(job.budget / 8, 1e-9)
            kept = before.trained_to_s
            if before.outcome == "lost":  # back to the last checkpoint
                kept = max(before.inherited_s, math.floor(before.trained_to_s / interval) * interval)
            inherited = kept
            source = f"attempt {before.attempt}" if kept > before.inherited_s else before.continued_from
        elif continues and job.lower is not None:
            inherited = job.lower.budget
            source = f"rung {job.lower.budget:g} attempt {job.lower.tries[-1].attempt}"
        else:
            inherited, source = 0.0, "start"
        startup = float(self.rng.uniform(0.01, 0.03) * self.ladder[0])
        attempt = Try(len(job.tries) + 1, worker, now, inherited, source, startup, trained_to_s=job.budget)
        job.tries.append(attempt)
        self._fate(job, attempt)
        overhead = 1.05  # validation and checkpoints
        attempt.returned_s = now + startup + overhead * max(attempt.trained_to_s - inherited, 0.0)
        return attempt

    def _fate(self, job: Job, attempt: Try) -> None:
        chance, share = self.rng.random(), self.rng.random()
        partly = attempt.inherited_s + share * (job.budget - attempt.inherited_s)
        parameters = count_parameters(job.configuration)
        if parameters > MAX_PARAMETERS:
            attempt.outcome, attempt.trained_to_s = "crashed", attempt.inherited_s
            attempt.reason = f"too_large: {parameters / 1e6:.0f} M parameters, {MAX_PARAMETERS / 1e6:.0f} M allowed"
        elif chance < CRASH_SHARE:
            attempt.outcome, attempt.trained_to_s = "crashed", partly
            attempt.reason = "not_finite: training loss is nan"
        elif chance < CRASH_SHARE + LOST_SHARE and attempt.attempt < 3:
            attempt.outcome, attempt.trained_to_s, attempt.reason = "lost", partly, "worker silent for 60 s"
        elif chance < CRASH_SHARE + LOST_SHARE + HANDED_BACK_SHARE and attempt.attempt < 3:
            attempt.outcome, attempt.trained_to_s, attempt.reason = "handed_back", partly, "allocation ends"

    def _record(self, job: Job, last: Try) -> None:
        job.finished_s = last.returned_s
        self.results.append(job)
        if last.outcome == "crashed":
            job.exception = last.reason
        else:
            noise = 1 + 0.02 * self.rng.standard_normal()
            job.loss = float(min(expected_error(self.space, job.configuration, job.budget, self.ladder) * noise, 1.0))
            self._observed[job.rung].append((job.loss, to_unit(self.space, job.configuration)))
        bracket = self._brackets[job.config_id[0]]
        bracket.done.append(job)
        if len(bracket.done) == bracket.sizes[bracket.stage]:
            self._promote(bracket)

    def _promote(self, bracket: _Bracket) -> None:
        alive = sorted((j for j in bracket.done if j.loss is not None), key=lambda j: (j.loss, j.config_id))
        bracket.stage += 1
        if bracket.is_over:
            return
        rung = bracket.first_rung + bracket.stage
        bracket.sizes[bracket.stage] = min(bracket.sizes[bracket.stage], len(alive))
        chosen = alive[: bracket.sizes[bracket.stage]]
        bracket.waiting = [Job(j.config_id, j.configuration, rung, self.ladder[rung], lower=j) for j in chosen]
        bracket.done = []
        if not chosen:  # every configuration crashed
            bracket.stage = len(bracket.sizes)


def from_unit(space: tuple[Hyperparameter, ...], unit: np.ndarray) -> dict[str, Value]:
    """A configuration from a point of the unit cube, with plain Python values."""
    configuration: dict[str, Value] = {}
    for h, u in zip(space, unit, strict=True):
        low, high = (h.lower - 0.499, h.upper + 0.499) if h.integer else (h.lower, h.upper)
        value = low * (high / low) ** u if h.log else low + (high - low) * u
        configuration[h.name] = int(min(max(round(value), h.lower), h.upper)) if h.integer else float(value)
    return configuration


def to_unit(space: tuple[Hyperparameter, ...], configuration: Configuration) -> np.ndarray:
    """The inverse of `from_unit`, up to rounding."""
    unit = []
    for h in space:
        value = float(configuration[h.name])  # type: ignore[arg-type]  # the space is numeric
        if h.log:
            unit.append(math.log(value / h.lower) / math.log(h.upper / h.lower))
        else:
            unit.append((value - h.lower) / (h.upper - h.lower))
    return np.array(unit)


def count_parameters(configuration: Configuration) -> float:
    """Roughly how many parameters the network of a configuration has (3x3 convolutions alone)."""
    values = {name: float(value) for name, value in configuration.items() if isinstance(value, int | float)}
    width, total = values["initial_filters"], 0.0
    for group in (1, 2, 3):
        wider = max(1.0, round(width * values[f"widen_factor_{group}"]))
        blocks, branches = values[f"nr_residual_blocks_{group}"], values[f"res_branches_{group}"]
        total += branches * 9 * (width * wider + (2 * blocks - 1) * wider**2)
        width = wider
    return total


def expected_error(
    space: tuple[Hyperparameter, ...], configuration: Configuration, training_s: float, ladder: tuple[float, ...]
) -> float:
    """Validation error after some training: a power law from chance towards a floor, both of the configuration."""
    u = dict(zip((h.name for h in space), to_unit(space, configuration), strict=True))
    size = math.log10(count_parameters(configuration))
    floor = 0.03 + 0.25 * (u["learning_rate"] - 0.55) ** 2 + 0.05 * (u["weight_decay"] - 0.7) ** 2
    floor += 0.04 * (u["momentum"] - 0.8) ** 2 + 0.06 * max(6.2 - size, 0.0)
    floor += 0.10 * u["death_rate"] * (1 - u["res_branches_3"]) + 0.02 * (u["mixup_alpha"] - 0.4) ** 2
    # Larger, more regularised models learn more slowly: that is what makes short budgets misleading.
    slowness = ladder[0] * 10 ** (0.7 * (size - 6)) * (0.5 + u["mixup_alpha"] + 0.5 * u["cutout_length"])
    return float(floor + (CHANCE_ERROR - floor) * (1 + training_s / max(slowness, 1e-9)) ** -1.5)
