"""The search itself, without processes and files: brackets, the proposer, and what is to be evaluated next.

It takes the place of hpbandster's Master, which mixes this with threads. The master, `rebuild` and `verify` share it,
so that a search that is resumed or checked goes through the same code as one that runs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ConfigSpace import ConfigurationSpace

from pipeline.problems.space import build_space
from pipeline.records import (
    CHECKPOINT_KEY,
    ConfigId,
    Configuration,
    Evaluation,
    EvaluationKey,
    LowerRung,
    derive_seed,
)
from pipeline.run.history import DRAW_KEYS, Draw, DrawInfo, EarlierResult, Result
from pipeline.run.lower_rungs import lower_rungs
from pipeline.run.remarks import Remarks
from pipeline.runtime import Reply
from pipeline.search.asha import Asha
from pipeline.search.brackets import Brackets, ConfigGroup, Halving, Run
from pipeline.search.encoding import Encoding
from pipeline.search.freezing import HopelessFrozen
from pipeline.search.methods import make_proposer
from pipeline.search.model_ranking import ModelDecision, ModelRanking
from pipeline.search.objectives import Objectives
from pipeline.search.proposers import Proposal, Proposer
from pipeline.settings import Settings, budget_ladder

log = logging.getLogger("tandem.search")


@dataclass(frozen=True)
class Accepted:
    """The accepted result of an evaluation.

    Attributes:
        loss: None when it crashed.
        attempt: the attempt that delivered it; 0 when unknown.
        training_s: budget clock at its end, lower rungs included where it continued; 0 when unknown.
        has_checkpoint: its attempt left one, as far as is known.
    """

    loss: float | None
    attempt: int
    training_s: float
    has_checkpoint: bool = True


@dataclass(frozen=True)
class _Ahead:
    """A proposal that is being made elsewhere, or is ready."""

    config_id: ConfigId
    proposal: Reply
    results_seen: int


class Search:
    """Which evaluation is next, and what a result means.

    Attributes:
        objectives: what is optimised where it is several, and the losses in it.
        proposer: proposes configurations.
        background: runs what a slow proposer has planned, elsewhere; None: proposals are made at once, however long
            they take. One proposal is made at a time, of the results and the evaluations under way when it was begun,
            which its draw's `results_seen` tells: the files still say all that it depends on. `look_ahead` begins one
            before anybody asks.
        now: the clock that a draw's time is taken from, s since 1970 (UTC).
        results_seen: lines of results.json that were taken in.
        draws: configurations drawn, in order.
        accepted: results by (config_id, budget).
        incumbents: the best configuration and its loss, by budget; ties go to the smaller config_id. With several
            objectives: by the first; `objectives.losses` has the values of all.
        model_based: draws that a model proposed.
        trained_s: training seconds of all accepted results, each second once.
        remarks: on all accepted results.
        decides_by_model: what asks the proposer's model who is promoted, and who is frozen.
    """

    def __init__(
        self, settings: Settings, proposer: Proposer | None = None, earlier: Sequence[EarlierResult] = ()
    ) -> None:
        self.settings = settings
        self.ladder = budget_ladder(settings.search)
        self.objectives = Objectives.of(settings)
        self.proposer = proposer or make_proposer(settings, self._space, self.objectives)
        self.background: Callable[[Callable[[], Proposal]], Reply] | None = None
        self.now: Callable[[], float] = time.time
        self.results_seen = 0
        self.draws: list[Draw] = []
        self.accepted: dict[EvaluationKey, Accepted] = {}
        self.incumbents: dict[float, tuple[ConfigId, float]] = {}
        self.model_based = 0
        self.trained_s = 0.0
        self.remarks = Remarks()
        self._ranking, self._freezing = self._model_ranking(), self._hopeless_frozen()
        self.decides_by_model: list[ModelDecision] = [d for d in (self._ranking, self._freezing) if d is not None]
        self._halving = self._make_halving()
        self._making: _Ahead | None = None
        self._ready: _Ahead | None = None
        self._is_awaited = False
        self._new_draws: list[Draw] = []
        if earlier:
            self._start_from(earlier)

    @cached_property
    def _space(self) -> ConfigurationSpace:
        return build_space(self.settings)

    @cached_property
    def _encoding(self) -> Encoding:
        return Encoding(self._space)

    def _make_halving(self) -> Halving:
        eta, count = self.settings.search.eta, self.settings.search.iterations
        ranking = self.objectives.ranked if self.objectives else self._ranking
        if self.settings.search.scheduler == "asha":
            return Asha(self.ladder, eta, count, ranking)
        return Brackets(self.ladder, eta, count, ranking, self._freezing)

    def _hopeless_frozen(self) -> HopelessFrozen | None:
        least_chance = self.settings.search.freeze_below
        return HopelessFrozen(self.proposer, lambda: self.iterations, least_chance) if least_chance else None

    def _model_ranking(self) -> ModelRanking | None:
        promote_by = self.settings.search.promote_by
        if promote_by == "rank":
            return None
        return ModelRanking(self.proposer, lambda: self.iterations, trusts_agreement=promote_by == "agreement")

    def _start_from(self, earlier: Sequence[EarlierResult]) -> None:
        """Let the proposer know an earlier run's results, as far as they are of this space and ladder."""
        fitting = [r for r in earlier if r.budget in self.ladder and self._encoding.holds(r.configuration)]
        if len(fitting) < len(earlier):
            log.info("%d of %d results of the earlier run fit this one", len(fitting), len(earlier))
        for index, result in enumerate(fitting):
            # Bracket -1: as hpbandster numbers what it starts from.
            config_id, loss = (-1, 0, index), result.loss
            if self.objectives:
                loss = self.objectives.take_in((config_id, result.budget), loss, result.info)
            if loss is None and result.loss is not None:
                continue  # it lacks a value of another objective: that is no crash
            self.proposer.absorb(config_id, result.configuration, result.budget, loss)

    # Going on ----------------------------------------------------------------------------------------------------
    def next_evaluation(self, may_draw: bool = True) -> Run | None:
        """The next evaluation to run, drawing a configuration if need be; None: wait for results or for a proposal that
        is being made, or done.
        """
        if not may_draw:
            return self._halving.next_queued()
        while (step := self._halving.next_step()) is not None:
            if len(step) == 3:
                return step
            draw = self._drawn(*step)
            if draw is None:
                return None
            self._halving.add_drawn(draw.config_id, draw.configuration, draw.info)
            self._note(draw)
            self._new_draws.append(draw)
        return None

    def look_ahead(self) -> None:
        """Have the proposal of the next draw made in the background before a worker asks for it, and made anew where
        results have come in since: whoever asks is given the newest that is ready.
        """
        if not self.proposer.is_slow or self.background is None:
            return
        self._take_ready()
        due = self._halving.next_due()
        is_fresh = self._ready is not None and self._ready.results_seen == self.results_seen
        if due is None or self._making is not None or is_fresh:
            return
        self._begin(*due)

    def take_new_draws(self) -> list[Draw]:
        """Configurations drawn since the last call: they must be on disk before they are dispatched."""
        new, self._new_draws = self._new_draws, []
        return new

    def absorb(self, result: Result) -> None:
        """Take in a result, in the order of results.json; of two of the same evaluation the first one counts.

        Raises:
            ValueError: the search does not wait for this evaluation.
        """
        if (result.config_id, result.budget) in self.accepted:
            self.results_seen += 1  # two masters in the same instant could leave a second line
            return
        loss = result.loss
        if self.objectives:
            loss = self.objectives.take_in((result.config_id, result.budget), loss, result.info)
        configuration = self._halving.awaited(result.config_id, result.budget)
        # The proposer first: what is promoted may depend on what it makes of this result.
        self._learn_on_the_way(result, configuration)
        attempt, training_s = int(result.info.get("attempt") or 0), float(result.info.get("training_s") or 0.0)
        self.proposer.absorb(result.config_id, configuration, result.budget, loss)
        if training_s > 0 and loss is not None and math.isfinite(loss):
            self.proposer.learn_cost(result.config_id, configuration, result.budget, training_s)
        self._halving.add_result(result.config_id, result.budget, loss)
        self.results_seen += 1
        has_checkpoint = result.info.get(CHECKPOINT_KEY) is not False
        accepted = Accepted(loss, attempt, training_s, has_checkpoint)
        self.accepted[result.config_id, result.budget] = accepted
        # An objective without checkpoints has trained all of it anew.
        is_anew = result.info.get("continued_from") == "start"
        lower = None if is_anew else self._lower_rung(result.config_id, result.budget)
        inherited = self.accepted[result.config_id, lower.budget].training_s if lower else 0.0
        self.trained_s += max(0.0, accepted.training_s - inherited)
        self.remarks.take(result)
        self._consider(result, loss)

    def _learn_on_the_way(self, result: Result, configuration: Configuration) -> None:
        """Tell of the rungs that a training passed, and of none twice; of several objectives they do not tell."""
        is_told = self.proposer.learns_on_the_way and not self.objectives
        if not is_told or self.settings.search.promotion != "continue":
            return
        told = max(self._results_below(result.config_id, result.budget), default=0.0)
        for budget, loss in lower_rungs(result, self.ladder):
            if budget > told:
                self.proposer.absorb(result.config_id, configuration, budget, loss)

    def evaluation(self, config_id: ConfigId, configuration: Configuration, budget: float, attempt: int) -> Evaluation:
        """What a worker must know of one attempt."""
        return Evaluation(
            config_id=config_id,
            configuration=configuration,
            budget=budget,
            attempt=attempt,
            seed=derive_seed(self.settings.seed, "evaluation", *config_id),
            continues=self._lower_rung(config_id, budget),
            is_largest=budget == self.ladder[-1],
        )

    def plan(self, config_id: ConfigId, budget: float) -> Callable[[], Proposal]:
        """How to make the proposal of a config_id for its first budget, given the results taken in and the evaluations
        under way; nothing remembers it.
        """
        pending = [(c, b) for _, c, b in self.outstanding()] if self.proposer.is_slow else []
        return self.proposer.plan(config_id, budget, pending)

    # State -------------------------------------------------------------------------------------------------------
    @property
    def iterations(self) -> Sequence[ConfigGroup]:
        """Brackets (or what stands in their place) that have begun."""
        return self._halving.iterations

    @property
    def is_done(self) -> bool:
        """Whether every bracket has ended."""
        return self._halving.is_done()

    @property
    def is_proposing(self) -> bool:
        """Whether `next_evaluation` waits for a proposal that is being made."""
        return self._is_awaited

    def planned(self) -> int:
        """Evaluations of the whole search, promotions included, as far as that is known before."""
        return self._halving.planned()

    def open_brackets(self) -> Sequence[ConfigGroup]:
        """Brackets that have begun and not ended."""
        return self._halving.open()

    def outstanding(self) -> list[Run]:
        """Evaluations that have been scheduled and have no result, oldest bracket first."""
        return [entry for bracket in self.open_brackets() for entry in bracket.outstanding()]

    def most_parallel(self, limit: int) -> int:
        """How many evaluations may run side by side from now on, at most `limit`: more workers are of no use."""
        return self._halving.most_parallel(limit)

    def parallel_now(self, limit: int) -> int:
        """How many evaluations could run side by side at this moment, at most `limit`, those that run included."""
        return self._halving.parallel_now(limit)

    # Inside ------------------------------------------------------------------------------------------------------
    def _drawn(self, config_id: ConfigId, budget: float) -> Draw | None:
        """The draw of a config_id; None: its proposal is being made."""
        if not self.proposer.is_slow or self.background is None:
            return self._draw(config_id, budget, self.plan(config_id, budget)(), self.results_seen)
        self._take_ready()
        if self._ready is not None and self._ready.config_id == config_id:
            return self._draw(config_id, budget, self._ready.proposal.result(), self._ready.results_seen)
        self._is_awaited = True
        if self._making is None or self._making.config_id != config_id:
            self._begin(config_id, budget)
        return None

    def _begin(self, config_id: ConfigId, budget: float) -> None:
        assert self.background is not None
        self._making = _Ahead(config_id, self.background(self.plan(config_id, budget)), self.results_seen)

    def _take_ready(self) -> None:
        if self._making is not None and self._making.proposal.done():
            self._ready, self._making = self._making, None

    def _draw(self, config_id: ConfigId, budget: float, proposal: Proposal, results_seen: int) -> Draw:
        info: DrawInfo = {
            "model_based_pick": proposal.model_budget is not None,
            "budget": budget,
            "results_seen": results_seen,
            "model_budget": proposal.model_budget,
            "drawn": self.now(),
        }
        return Draw(config_id, proposal.configuration, info)

    def _consider(self, result: Result, loss: float | None) -> None:
        best = self.incumbents.get(result.budget)
        if loss is not None and (best is None or (loss, result.config_id) < (best[1], best[0])):
            self.incumbents[result.budget] = result.config_id, loss

    def _note(self, draw: Draw) -> None:
        # Whatever is being made for another draw knows nothing of this one.
        self._making, self._ready, self._is_awaited = None, None, False
        self.draws.append(draw)
        self.model_based += bool(draw.info["model_based_pick"])

    def _lower_rung(self, config_id: ConfigId, budget: float) -> LowerRung | None:
        if self.settings.search.promotion != "continue":
            return None
        below = self._results_below(config_id, budget)
        if not below:
            return None
        accepted = self.accepted[config_id, below[-1]]
        return LowerRung(below[-1], accepted.attempt, accepted.has_checkpoint)

    def _results_below(self, config_id: ConfigId, budget: float) -> list[float]:
        """The smaller budgets on which a configuration has a result, ascending."""
        return [b for b in self.ladder if b < budget and (config_id, b) in self.accepted]

    # Rebuilding --------------------------------------------------------------------------------------------------
    def take_in(self, draw: Draw, may_be_early: bool = False) -> None:
        """Take in a configuration that was drawn before.

        Args:
            may_be_early: results that it followed from may be lost: it is taken in once it is due, if ever.

        Raises:
            ValueError: the search would not have drawn this config_id now, its configuration is of another space, or
                the line lacks what this version writes.
        """
        missing = [k for k in DRAW_KEYS if k not in draw.info]
        if missing:
            raise ValueError(f"its config_info lacks {', '.join(missing)}: another version wrote it")
        if not self._encoding.holds(draw.configuration):
            raise ValueError("its configuration is not one of the search space")
        if may_be_early and self._halving.keep_for_later(draw.config_id, draw.configuration, draw.info):
            self._note(draw)
            return
        self._halving.add_drawn(draw.config_id, draw.configuration, draw.info)
        due = self.iterations[draw.config_id[0]].data[draw.config_id].budget
        if draw.info["budget"] != due:
            raise ValueError(f"it was drawn for budget {draw.info['budget']:g}, which is not that rung's")
        self._note(draw)
