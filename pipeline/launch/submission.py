"""Call submitit in a short-lived process of its own.

Its environment describes no job (a master may be one), its session is its own (no Ctrl-C reaches the workers), and
when it ends nobody must wait for what it started. No result is ever fetched through submitit: what a worker has to
say, it says to the master, and what Slurm says of a task is read from squeue, never from the moment in which sacct
calls a requeued task NODE_FAIL.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.cluster import slurm
from pipeline.errors import SiteError

SUBMISSION_TIMEOUT_S = 300.0

Request = Mapping[str, Any]
Submit = Callable[[Request], list[str]]


def submit_apart(
    submit: Submit, request: Request, what: str, environment: Mapping[str, str] | None = None
) -> list[str]:
    """What `submit(request)` returns when a process of its own calls it: the ids of what it started.

    Args:
        submit: a function of a module's own (not a method or a closure).
        request: plain values that JSON can carry.
        what: is submitted, for a person ("3 workers").
        environment: variables that are added to the process's.

    Raises:
        SiteError: it failed; the text has Slurm's reason.
    """
    program = (
        f"from pipeline.launch.submission import answer; from {submit.__module__} import {submit.__name__}; "
        f"answer({submit.__name__})"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={**slurm.job_environment(), **(environment or {})},
            timeout=SUBMISSION_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SiteError(f"Submitting {what} did not end within {SUBMISSION_TIMEOUT_S:.0f} s.") from None
    if done.returncode != 0:
        raise SiteError(f"Submitting {what} failed: {_last_words(done.stderr) or 'no reason given'}")
    return [str(job) for job in json.loads(done.stdout)]


def answer(submit: Submit) -> None:
    """Submit the request that stands on standard input, and print the ids (a JSON list)."""
    request = json.load(sys.stdin)
    # Local workers live on: they must not hold the pipe that the answer goes through, or its reader waits for them.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    json.dump(submit(request), output)
    output.close()


def _last_words(text: str) -> str:
    """What Slurm said in a traceback of submitit, or the traceback's last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "error:" in line]
    return " ".join(said[-2:] or lines[-1:])
