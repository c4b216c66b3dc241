"""DEHB's ask and tell; a crash is told as infinitely bad, as its documentation does."""

import tempfile

import numpy as np
from dehb import DEHB
from spaces import config_space


class Adapter:
    """See `serve.py`."""

    def __init__(self, start):
        space = config_space(start["space"], start["seed"])
        self.dehb = DEHB(
            f=None,
            cs=space,
            dimensions=len(space),
            min_fidelity=start["budgets"][0],
            max_fidelity=start["budgets"][-1],
            eta=start["eta"],
            # With more it would start workers of its own.
            n_workers=1,
            seed=start["seed"] % 2**32,
            output_path=tempfile.mkdtemp(),
            save_freq="end",
            log_level="ERROR",
        )

    def ask(self):
        job = self.dehb.ask()
        return dict(job["config"]), job["fidelity"], job

    def tell(self, job, loss, cost_s, curve):
        self.dehb.tell(job, {"fitness": np.inf if loss is None else loss, "cost": cost_s})
