"""Syne Tune 0.13, the last release with MOBSTER, Hyper-Tune and DyHPO: pausing and promoting asynchronously.

All three stop on the rungs of the ladder only (DyHPO's own default are evenly spaced ones). Conditions do not exist
here: every hyperparameter is always drawn.
"""

import datetime
import logging

import numpy as np
from spaces import active
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import MOBSTER, DyHPO, HyperTune
from synetune_domains import domain

TARGET = "target_budget"


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        logging.disable(logging.CRITICAL)
        np.random.seed(start["seed"] % 2**32)
        self.space, budgets = start["space"], [round(b) for b in start["budgets"]]
        method = start["method"].split(".")[1]
        kind, own = {
            "mobster": (MOBSTER, {"type": "promotion", "grace_period": budgets[0], "reduction_factor": start["eta"]}),
            "hypertune": (
                HyperTune,
                {
                    "type": "promotion",
                    "grace_period": budgets[0],
                    "reduction_factor": start["eta"],
                    "brackets": len(budgets),
                },
            ),
            "dyhpo": (DyHPO, {"rung_levels": budgets[:-1]}),
        }[method]
        self.scheduler = kind(
            {**{h["name"]: domain(h) for h in self.space}, TARGET: budgets[-1]},
            metric="loss",
            mode="min",
            resource_attr="budget",
            max_resource_attr=TARGET,
            random_seed=start["seed"] % 2**31,
            search_options={"debug_log": False},
            **own,
        )
        self.trials = []

    def ask(self):
        suggestion = self.scheduler.suggest(len(self.trials))
        if suggestion is None:
            return None
        if suggestion.spawn_new_trial_id:
            trial = Trial(len(self.trials), suggestion.config, datetime.datetime.now())
            self.trials.append(trial)
            self.scheduler.on_trial_add(trial)
        else:
            trial = self.trials[suggestion.checkpoint_trial_id]
            if suggestion.config is not None:
                trial.config = suggestion.config
        return active(self.space, trial.config), trial.config[TARGET], trial

    def tell(self, trial, loss, cost_s, curve):
        if loss is None:
            self.scheduler.on_trial_error(trial)
            return
        self.scheduler.on_trial_result(trial, {"loss": loss, "budget": round(trial.config[TARGET])})
