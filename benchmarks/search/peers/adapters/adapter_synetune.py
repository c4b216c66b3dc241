"""Syne Tune's present release: asynchronous successive halving with its BOHB or with quantile regression (CQR).

A trial climbs the ladder of budgets rung by rung until the scheduler stops it. Conditions do not exist here: every
hyperparameter is always drawn. BOHB's densities leave the range of an integer that does not begin at 0 or 1 (Syne Tune
0.16 takes the upper bound for the width): what they propose is moved to the nearest legal value.
"""

import datetime

import numpy as np
from spaces import active
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHACQR, BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision
from synetune_domains import domain


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        np.random.seed(start["seed"] % 2**32)
        self.space, self.budgets = start["space"], start["budgets"]
        kind = {"bohb": BOHB, "cqr": ASHACQR}[start["method"].split(".")[1]]
        self.scheduler = kind(
            {h["name"]: domain(h) for h in self.space},
            metric="loss",
            time_attr="budget",
            max_t=round(self.budgets[-1]),
            grace_period=round(self.budgets[0]),
            reduction_factor=start["eta"],
            random_seed=start["seed"] % 2**31,
        )
        self.trials = 0
        self.climbing = []

    def ask(self):
        if self.climbing:
            return self.climbing.pop(0)
        config = self.scheduler.suggest().config
        for h in self.space:
            if h["kind"] == "int":
                config[h["name"]] = min(max(config[h["name"]], h["lower"]), h["upper"])
        trial = Trial(self.trials, config, datetime.datetime.now())
        self.trials += 1
        self.scheduler.on_trial_add(trial)
        return active(self.space, config), self.budgets[0], (trial, 0)

    def tell(self, handle, loss, cost_s, curve):
        trial, rung = handle
        if loss is None:
            self.scheduler.on_trial_error(trial)
            return
        result = {"loss": loss, "budget": self.budgets[rung]}
        decision = self.scheduler.on_trial_result(trial, result)
        if rung + 1 < len(self.budgets) and decision == SchedulerDecision.CONTINUE:
            self.climbing.append((active(self.space, trial.config), self.budgets[rung + 1], (trial, rung + 1)))
