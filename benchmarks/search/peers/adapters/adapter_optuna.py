"""Optuna with Hyperband's pruning, proposing by TPE or by its Gaussian process.

A trial climbs the ladder of budgets rung by rung, reports its loss on each, and ends when the pruner says so.
"""

import optuna


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = start["seed"] % 2**32
        samplers = {
            # Its documentation's advice for conditions and for parallel searches.
            "tpe": lambda: optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=start["workers"] > 1
            ),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        }
        budgets = start["budgets"]
        pruner = optuna.pruners.HyperbandPruner(
            min_resource=round(budgets[0]), max_resource=round(budgets[-1]), reduction_factor=round(start["eta"])
        )
        sampler = samplers[start["method"].split(".")[1]]()
        self.study = optuna.create_study(sampler=sampler, pruner=pruner)
        self.space = start["space"]
        self.budgets = budgets
        self.climbing = []

    def ask(self):
        if self.climbing:
            return self.climbing.pop(0)
        trial = self.study.ask()
        return self._values(trial), self.budgets[0], (trial, 0)

    def _values(self, trial):
        values = {}
        for h in self.space:
            if any(values.get(parent) not in choices for parent, choices in h.get("active_if", {}).items()):
                continue
            name = h["name"]
            if h["kind"] == "categorical":
                values[name] = trial.suggest_categorical(name, h["choices"])
            elif h["kind"] == "int":
                values[name] = trial.suggest_int(name, h["lower"], h["upper"], log=h["log"])
            else:
                values[name] = trial.suggest_float(name, h["lower"], h["upper"], log=h["log"])
        return values

    def tell(self, handle, loss, cost_s, curve):
        trial, rung = handle
        if loss is None:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        trial.report(loss, round(self.budgets[rung]))
        if rung + 1 == len(self.budgets):
            self.study.tell(trial, loss)
        elif trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self.climbing.append((dict(trial.params), self.budgets[rung + 1], (trial, rung + 1)))
