"""Checks of a Slurm cluster from its login node, and the job that examines a compute node."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.cluster import site, slurm
from pipeline.cluster.addresses import address_towards_nodes, interfaces
from pipeline.cluster.sbatch_options import command_line, worker_options
from pipeline.doctor.findings import FAULT, OK, WARNING, Finding
from pipeline.doctor.roundtrip import listen
from pipeline.errors import SiteError
from pipeline.files import is_there, publish_json, publish_text, read_json
from pipeline.settings import Settings, changed, dump_settings

JOB_MIN = 5
SMALL_ARRAYS = 100
# Shared file systems hold a new file back for up to a minute; more than this is worth a word.
SLOW_FILES_S = 30.0
UNSEEN_S, LOOK_S = 20.0, 3.0


def check_request(settings: Settings, results: Path) -> list[Finding]:
    """Whether Slurm takes what the settings ask for: partition, account, time, GPUs, and the whole of it."""
    try:
        warnings = site.check_site(settings, results)
    except SiteError as error:
        return [Finding("slurm: the request", FAULT, str(error), "set what the text names")]
    return [
        Finding("slurm: the request", OK, site.describe_request(settings)),
        *(Finding("slurm: the request", WARNING, warning) for warning in warnings),
    ]


def check_configuration(settings: Settings) -> list[Finding]:
    """What the cluster's configuration means for a search."""
    found = slurm.configuration()
    return [_accounting(found), _arrays(settings), _requeue(found), _preemption(found)]


def _accounting(found: dict[str, str]) -> Finding:
    kind = found.get("AccountingStorageType", "(null)")
    if "slurmdbd" in kind:
        return Finding("slurm: accounting", OK, kind)
    mend = "nothing is needed: Tandem asks squeue, not sacct; a failed job's end is told by its log alone"
    return Finding("slurm: accounting", WARNING, f"off ({kind})", mend)


def _arrays(settings: Settings) -> Finding:
    largest = slurm.max_array_size()
    if largest < SMALL_ARRAYS and settings.workers.count > largest:
        found = f"MaxArraySize {largest}: {settings.workers.count} workers will be several arrays"
        return Finding("slurm: arrays", WARNING, found)
    return Finding("slurm: arrays", OK, f"MaxArraySize {largest}")


def _requeue(found: dict[str, str]) -> Finding:
    if found.get("JobRequeue", "1") == "0":
        mend = "nothing is needed: workers ask for it; where the site forbids that, the master replaces them"
        return Finding("slurm: requeue", WARNING, "JobRequeue is 0: jobs are not requeued unless they ask", mend)
    return Finding("slurm: requeue", OK, "jobs may be requeued")


def _preemption(found: dict[str, str]) -> Finding:
    mode = found.get("PreemptMode", "OFF")
    if "SUSPEND" in mode.upper():
        mend = "a suspended worker counts as silent, and its evaluation goes to another after workers.patience_s"
        return Finding("slurm: preemption", WARNING, f"PreemptMode {mode}", mend)
    return Finding("slurm: preemption", OK, f"PreemptMode {mode}")


def examine_node(settings: Settings, folder: Path, wait_s: float, tell: Callable[[str], None]) -> list[Finding]:
    """Let a job of a minute examine a compute node, and both ways of the network.

    Args:
        folder: of its own, on the storage that runs will be on.
        wait_s: how long the job may take to start and to answer.
        tell: told what is waited for.
    """
    address = address_towards_nodes(settings)
    server, uri = listen(folder / "tls", address, settings.network.ports)
    try:
        publish_text(folder / "settings.yaml", dump_settings(settings))
        publish_json(folder / "request.json", {"uri": uri, "written": time.time()})
        job = _submit(settings, folder)
        tell(f"Job {job} examines a node (at most {wait_s:.0f} s) ...")
        return [_interface(address), *_await_answer(folder, job, wait_s)]
    except SiteError as error:
        return [Finding("node", FAULT, str(error), "see what sbatch says; slurm.extra passes further options on")]
    finally:
        server.shutdown()


def _submit(settings: Settings, folder: Path) -> str:
    short = changed(settings, {"slurm.walltime_min": JOB_MIN})
    options = {k: v for k, v in worker_options(short).items() if k in _PLAIN_OPTIONS or k in settings.slurm.extra}
    options |= {"job-name": "tandem-doctor", "output": str(folder / "job.log")}
    lines = ["#!/bin/bash", *settings.slurm.setup, f"cd {shlex.quote(str(Path.cwd()))}"]
    lines.append(f"exec {shlex.quote(sys.executable)} -m pipeline.doctor.node {shlex.quote(str(folder))}")
    script = folder / "job.sh"
    publish_text(script, "\n".join(lines) + "\n", mode=0o755)
    return slurm.run_command("sbatch", "--parsable", *command_line(options), str(script)).strip().partition(";")[0]


_PLAIN_OPTIONS = (
    "time", "partition", "account", "qos", "gres", "gpus-per-task", "gpus-per-node", "constraint", "exclude", "mem",
    "cpus-per-task", "ntasks", "nodes",
)  # fmt: skip


def _interface(address: str) -> Finding:
    """What a master of this host would listen on."""
    names = [name for name, own in interfaces().items() if own == address]
    on = f" ({', '.join(names)})" if names else ""
    return Finding("network: the master's address", OK, f"{address}{on}, as the route to the nodes or the settings say")


def _await_answer(folder: Path, job: str, wait_s: float) -> list[Finding]:
    answer = folder / "answer.json"
    deadline = time.monotonic() + wait_s
    state, next_look, ended = "", 0.0, math.inf
    # A job that has ended may have left a file that is not seen yet.
    while time.monotonic() < min(deadline, ended + UNSEEN_S):
        if is_there(answer):
            return [_delay(folder, answer), *(Finding(**finding) for finding in read_json(answer))]
        if time.monotonic() >= next_look:
            state, next_look = _state(job), time.monotonic() + LOOK_S
            ended = math.inf if state.startswith(_ALIVE) else min(ended, time.monotonic())
        time.sleep(0.5)
    if state.startswith(_ALIVE):
        slurm.run_command("scancel", job)
    if state.startswith("PENDING"):
        mend = "it waits in the queue: run doctor again with a longer --wait, or on a partition with a free node"
        return [Finding("node", WARNING, f"job {job} has not started: {state}", mend)]
    if state.startswith(_ALIVE):
        mend = "run doctor again with a longer --wait; where none is long enough, the node's storage may hang"
        return [Finding("node", WARNING, f"job {job} has not answered within {wait_s:.0f} s: {state}", mend)]
    log = folder / "job.log"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if is_there(log) else []
    found = f"job {job} gave no answer; its state: {state or 'ended'}" + (f"; it said: {said[0]}" if said else "")
    mend = "the node must see this folder and this Python: keep both on shared storage, and load modules in slurm.setup"
    return [Finding("node", FAULT, found, mend)]


_ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")


def _state(job: str) -> str:
    """Slurm's state of a job, with the reason; "": it knows the job no more."""
    try:
        return slurm.run_command("squeue", "-h", "-j", job, "-o", "%T (%r)").strip()
    except SiteError:  # of a job that ended some minutes ago, squeue says that its id is wrong
        return ""


def _delay(folder: Path, answer: Path) -> Finding:
    """How long a file of another host took to be seen here, by the file server's clock."""
    probe = folder / "now"
    probe.touch()
    delay_s = max(0.0, probe.stat().st_mtime - answer.stat().st_mtime)
    found = f"a node's file was seen within {delay_s:.1f} s"
    if delay_s > SLOW_FILES_S:
        mend = "a search works, and waits as long wherever one host looks for what another has written"
        return Finding("storage: new files", WARNING, found, mend)
    return Finding("storage: new files", OK, found)
