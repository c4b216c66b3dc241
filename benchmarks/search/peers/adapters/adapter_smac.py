"""SMAC3's multi-fidelity facade (a random forest with Hyperband) by ask and tell."""

import logging
import tempfile

from smac import MultiFidelityFacade, Scenario
from smac.runhistory import StatusType, TrialValue
from spaces import config_space

# Asked beyond it, the facade says that its budget is used up.
ENDLESS = 1_000_000


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        logging.disable(logging.CRITICAL)
        scenario = Scenario(
            config_space(start["space"], start["seed"]),
            deterministic=True,
            min_budget=start["budgets"][0],
            max_budget=start["budgets"][-1],
            n_trials=ENDLESS,
            seed=start["seed"] % 2**31,
            output_directory=tempfile.mkdtemp(),
        )
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=int(start["eta"]))
        self.worst = 0.0
        self.smac = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            intensifier=intensifier,
            initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=10),
            overwrite=True,
            logging_level=False,
        )

    def ask(self):
        trial = self.smac.ask()
        return dict(trial.config), trial.budget, trial

    def tell(self, trial, loss, cost_s, curve):
        crashed = loss is None
        if not crashed:
            self.worst = max(self.worst, loss)
        value = TrialValue(
            # Its forest takes no infinite cost, which is its own of a crash.
            cost=self.worst if crashed else loss,
            time=cost_s,
            status=StatusType.CRASHED if crashed else StatusType.SUCCESS,
        )
        self.smac.tell(trial, value, save=False)
