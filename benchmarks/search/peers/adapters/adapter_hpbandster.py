"""hpbandster's random search, Hyperband and BOHB: its optimisers, generators and iterations, without its network."""

import hpbandster.core.master
import numpy as np
from hpbandster.core.dispatcher import Job
from hpbandster.optimizers import BOHB, HyperBand, RandomSearch
from spaces import config_space


def _without_network(self, config_generator, **kwargs):
    self.config_generator = config_generator
    self.config = {}


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        np.random.seed(start["seed"] % 2**32)
        hpbandster.core.master.Master.__init__ = _without_network
        kind = {"random": RandomSearch, "hyperband": HyperBand, "bohb": BOHB}[start["method"].split(".")[1]]
        self.optimiser = kind(
            configspace=config_space(start["space"], start["seed"]),
            eta=start["eta"],
            min_budget=start["budgets"][0],
            max_budget=start["budgets"][-1],
        )
        self.iterations = []

    def ask(self):
        # Master.run: the oldest iteration that has something, else a new one.
        while True:
            for iteration in self.iterations:
                if not iteration.is_finished:
                    run = iteration.get_next_run()
                    if run is not None:
                        config_id, values, budget = run
                        return values, budget, Job(config_id, config=values, budget=budget)
            self.iterations.append(self.optimiser.get_next_iteration(len(self.iterations), {}))

    def tell(self, job, loss, cost_s, curve):
        job.timestamps = {"submitted": 0, "started": 0, "finished": 0}
        job.result = None if loss is None else {"loss": loss, "info": {}}
        job.exception = None if loss is not None else "crashed"
        self.iterations[job.id[0]].register_result(job)
        self.optimiser.config_generator.new_result(job)
