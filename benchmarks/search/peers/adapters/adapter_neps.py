"""NePS by ask and tell: its choice for a space with a fidelity and no priors, and PriorBand.

PriorBand needs a prior: it gets the middle of every range, at low confidence, which knows nothing. Conditions do not
exist here: every hyperparameter is always drawn.
"""

import math
import random

import neps
import numpy as np
import torch
from neps.optimizers import load_optimizer
from spaces import active

FIDELITY = "budget"


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        random.seed(start["seed"])
        np.random.seed(start["seed"] % 2**32)
        torch.manual_seed(start["seed"])
        torch.set_num_threads(1)
        self.space = start["space"]
        kind = start["method"].split(".")[1]
        fields = {h["name"]: parameter(h, prior=kind == "priorband") for h in self.space}
        fields[FIDELITY] = neps.FloatFidelity(start["budgets"][0], start["budgets"][-1], log=True)
        space = type("Space", (neps.PipelineSpace,), fields)()
        chosen = {"default": "auto", "priorband": "priorband"}[kind]
        optimiser, self.chosen = load_optimizer((chosen, {"eta": round(start["eta"])}), space)
        self.neps = neps.AskAndTell(optimiser)

    def ask(self):
        trial = self.neps.ask()
        values = {name.removeprefix("SAMPLING__Resolvable.").split("::")[0]: v for name, v in trial.config.items()}
        budget = values.get(FIDELITY, trial.config.get(f"ENVIRONMENT__{FIDELITY}"))
        for h in self.space:
            if h["kind"] == "categorical" and isinstance(values[h["name"]], int):
                values[h["name"]] = h["choices"][values[h["name"]]]
        return active(self.space, values), budget, trial

    def tell(self, trial, loss, cost_s, curve):
        self.neps.tell(trial, ValueError("crashed") if loss is None else loss, evaluation_duration=cost_s)


def parameter(h, prior):
    low = {"prior_confidence": "low"} if prior else {}
    if h["kind"] == "categorical":
        return neps.Categorical(tuple(h["choices"]), **({"prior": 0, **low} if prior else {}))
    lower, upper = h["lower"], h["upper"]
    middle = math.sqrt(lower * upper) if h["log"] else (lower + upper) / 2
    if h["kind"] == "int":
        return neps.Integer(lower, upper, log=h["log"], **({"prior": round(middle), **low} if prior else {}))
    return neps.Float(lower, upper, log=h["log"], **({"prior": middle, **low} if prior else {}))
