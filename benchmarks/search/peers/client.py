"""A peer's method as the protocol asks it: a process of the peer's own environment, spoken to in JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.search.peers.environments import python_of
from benchmarks.search.problem import Outcome, Problem, describe
from benchmarks.search.protocol import Ask

ADAPTERS = Path(__file__).parent / "adapters"
# The end of what a peer wrote is the reason that it ended.
REASON_CHARACTERS = 300


class PeerMethod:
    """See `benchmarks.search.protocol.Method`.

    Attributes:
        cpu_s: processor seconds that the peer needed for its answers.
    """

    def __init__(self, problem: Problem, method: str, seed: int, workers: int) -> None:
        """Start the process.

        Raises:
            RuntimeError: the peer ended; its last words are in the text.
        """
        self.cpu_s = 0.0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [str(python_of(method.split(".")[0])), str(ADAPTERS / "serve.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment,
        )  # fmt: skip
        self._say({
            "method": method, "space": describe(problem.space), "budgets": list(problem.budgets), "eta": problem.eta,
            "seed": seed, "workers": workers,
        })  # fmt: skip

    def ask(self) -> Ask | None:
        """See `Method`."""
        answer = self._say({"op": "ask"})
        return None if answer.get("wait") else Ask(answer["trial"], answer["values"], answer["budget"])

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """See `Method`."""
        self._say({
            "op": "tell", "trial": trial, "loss": outcome.loss, "cost_s": outcome.cost_s, "curve": outcome.curve,
        })  # fmt: skip

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _say(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._log.seek(0)
            words = " ".join(self._log.read().decode(errors="replace").split())
            raise RuntimeError(f"the peer ended: {words[-REASON_CHARACTERS:]}")
        answer = json.loads(line)
        self.cpu_s += answer["cpu_s"]
        return answer
