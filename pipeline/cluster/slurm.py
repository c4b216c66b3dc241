"""Ask Slurm: the few commands that the program runs, each parsed in one place.

Nothing here waits for a job. A job is never known by its id alone (ids start again when a cluster is wiped), but by
its name, which holds the run's label.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import SiteError

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 60.0
# A job that was told to end may have no more than Slurm's KillWait (30 s): what it must know then is asked again and
# again for so long, each time with a short wait.
LAST_ANSWER_S = 15.0
LAST_TIMEOUT_S = 8.0
LAST_PAUSE_S = 1.0

# What the commands say on a machine that has them installed but belongs to no cluster.
_NO_CLUSTER = ("Could not establish a configuration source", "Unable to process configuration file")

# What scontrol says of a job that was requeued by a request before, whose answer was lost.
_IS_PENDING = "Job is pending execution"

# Variables that point the commands at a cluster; every other SLURM_ variable describes the job one is inside of, or
# changes what the commands print.
_CLUSTER_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER", "SLURM_JWT")
_OTHER_VARIABLES = (
    "SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "SQUEUE_", "SCANCEL_", "SINFO_", "SCONTROL_", "SACCT_",
)  # fmt: skip


class SlurmCommandError(SiteError):
    """A command of Slurm's failed, or did not answer in time; a moment later it may."""


def run_command(*command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """The standard output of a Slurm command.

    Raises:
        SlurmCommandError: it failed, or did not answer in time; the text has what it said.
        SiteError: it is missing.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env=job_environment()
        )
    except FileNotFoundError:
        raise SiteError(f"There is no {command[0]} on this machine: is it a login node of the cluster?") from None
    except subprocess.TimeoutExpired:
        raise SlurmCommandError(f"`{' '.join(command)}` did not answer within {timeout_s:.0f} s.") from None
    if done.returncode != 0:
        raise SlurmCommandError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@functools.cache
def has_slurm() -> bool:
    """Whether this machine belongs to a Slurm cluster.

    Raises:
        SiteError: it does, and the controller does not answer.
    """
    if shutil.which("sbatch") is None:
        return False
    try:
        run_command("scontrol", "show", "config")
    except SiteError as error:
        if any(text in str(error) for text in _NO_CLUSTER):
            return False
        raise SiteError(f"{str(error).rstrip('.')}. Slurm's controller may be down for a moment: try again.") from None
    return True


def job_environment() -> dict[str, str]:
    """The environment of this process without what describes the job it may run in, or a person's own options.

    sbatch and srun read many SLURM_ variables as options; a job submitted from within a job must not inherit them.
    SQUEUE_FORMAT, SLURM_TIME_FORMAT and others change what the commands print.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith(_OTHER_VARIABLES) or k in _CLUSTER_VARIABLES}


def workers_name(run_label: str) -> str:
    """The job name of a run's workers."""
    return f"tandem-{run_label}"


def master_name(run_label: str) -> str:
    """The job name of a run's master."""
    return f"tandem-master-{run_label}"


@dataclass(frozen=True)
class Task:
    """A job or an array task in the queue.

    Attributes:
        job_id: "123" or "123_4".
        name: the job's.
        state: as squeue writes it (PENDING, RUNNING, COMPLETING, ...).
        time_used: since it started ("1-02:03:04").
        reason: why it is pending.
        node: where it runs or ran; "" before it starts.
    """

    job_id: str
    name: str
    state: str
    time_used: str
    reason: str
    node: str = ""

    @property
    def minutes(self) -> float:
        """Minutes since it started; 0 before."""
        try:
            return parse_minutes(self.time_used) or 0.0
        except ValueError:  # "INVALID", between two states
            return 0.0

    @property
    def is_held(self) -> bool:
        """It will not start unless a person releases it."""
        return self.state == "PENDING" and ("held" in self.reason.lower() or self.reason == "DependencyNeverSatisfied")

    @property
    def is_pending(self) -> bool:
        """It waits to start, or will once its processes have ended."""
        return self.ends_before_requeue or (self.state in ("PENDING", "REQUEUED", "REQUEUE_FED") and not self.is_held)

    @property
    def waits_for(self) -> str:
        """Why it has not started, as Slurm says; "": it does not wait, or nobody knows yet."""
        return self.reason if self.state == "PENDING" and self.reason not in ("None", "") else ""

    @property
    def ends_before_requeue(self) -> bool:
        """It was requeued, and its processes have not ended yet: COMPLETING, like one that ends for good, at time 0."""
        return self.state == "COMPLETING" and self.time_used == "0:00"

    @property
    def is_running(self) -> bool:
        """It runs, or its node is being made ready."""
        return self.state in ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED")

    @property
    def waits_after_requeue(self) -> bool:
        """It waits only because Slurm holds a requeued job back for two minutes."""
        return self.state == "PENDING" and self.reason == "BeginTime"


def user_id() -> str:
    """The user as Slurm's commands take one: by number, because in a container there may be no name."""
    return str(os.getuid())


def tasks(names: Sequence[str], with_ended: bool = False, of_user: int | None = None) -> list[Task]:
    """The jobs and array tasks of these names and a user: one call to squeue.

    Args:
        with_ended: those that ended lately as well (Slurm remembers them for MinJobAge, mostly 300 s).
        of_user: the user's number; default: this process's.

    Raises:
        SiteError: squeue fails.
    """
    states = ("-t", "all") if with_ended else ()
    user = user_id() if of_user is None else str(of_user)
    output = run_command("squeue", "-h", "-r", "-u", user, "-n", ",".join(names), *states, "-o", "%i|%j|%T|%M|%N|%r")
    fields = [line.split("|", 5) for line in output.splitlines() if line.count("|") >= 5]
    return [Task(job, name, state, used, reason, node) for job, name, state, used, node, reason in fields]


def cancel(names: Sequence[str], state: str | None = None) -> None:
    """Cancel this user's jobs of these names, all of them or those in one state.

    Raises:
        SiteError: scancel fails.
    """
    for name in names:
        only = () if state is None else (f"--state={state}",)
        run_command("scancel", "--user", user_id(), "--name", name, *only)


def hasten(task: Task, delay_s: int = 5) -> None:
    """Let a requeued task start in some seconds; Slurm would hold it back for two minutes.

    Not at once: a node refuses a credential that is as old as the one it revoked when the task was requeued.

    Raises:
        SiteError: scontrol fails.
    """
    run_command("scontrol", "update", f"JobId={task.job_id}", f"StartTime=now+{delay_s}")


def slurm_task_id(environment: Mapping[str, str] = os.environ) -> str:
    """The job or array task of this process, as squeue writes it ("123", "123_4"); "" off Slurm."""
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID", "")


def requeue_this_job(timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Ask Slurm to run the job or array task that this process is in again; nothing off Slurm.

    One task of an array has the array's own id as its SLURM_JOB_ID: requeueing that would requeue all of them.

    Returns:
        Why it is not requeued, or "".
    """
    task = slurm_task_id()
    refusal = try_scontrol("requeue", task, timeout_s=timeout_s) if task else ""
    return "" if _IS_PENDING in refusal else refusal


def this_job_was_requeued(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Slurm has started the job or array task that this process is in before."""
    return bool(slurm_task_id(environment)) and environment.get("SLURM_RESTART_COUNT", "0") != "0"


def this_job_is_preempted() -> bool:
    """Whether the job that this process is in has its grace time before a preemption; False off Slurm.

    Slurm sends TERM at the start of the grace time and at a cancellation alike. A cancelled job is COMPLETING by then;
    one that is preempted is RUNNING still, and is COMPLETED, not requeued, if its processes end within the grace time.
    """
    task = slurm_task_id()
    if not task:
        return False
    try:
        job = _insist("scontrol", "-o", "show", "job", task)
    except SiteError as error:
        log.warning("Cannot tell whether this job was preempted, and it is taken for cancelled: %s", error)
        return False
    return "JobState=RUNNING " in job and re.search(r"\bPreemptTime=\d", job) is not None


def _insist(*command: str) -> str:
    """What a command prints, asked again while it fails; errors as `run_command`, once `LAST_ANSWER_S` has passed."""
    deadline = time.monotonic() + LAST_ANSWER_S
    while True:
        try:
            return run_command(*command, timeout_s=LAST_TIMEOUT_S)
        except SlurmCommandError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LAST_PAUSE_S)


def take_workers_name(run_label: str) -> None:
    """Give the job or array task that this process is in the name of a run's workers; nothing off Slurm."""
    if task := slurm_task_id():
        try_scontrol("update", f"JobId={task}", f"JobName={workers_name(run_label)}")


def run_label_of_requeued_task(environment: Mapping[str, str] = os.environ) -> str | None:
    """The label of the run whose workers' name this task had before it was requeued; None: it is new.

    Raises:
        SiteError: squeue fails.
    """
    task = slurm_task_id(environment)
    if not this_job_was_requeued(environment):
        return None
    # SLURM_JOB_NAME is still the name that the job was submitted with.
    name = run_command("squeue", "-h", "-j", task, "-o", "%j").strip()
    return name.removeprefix(workers_name("")) if name.startswith(workers_name("")) else None


def try_scontrol(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Ask for what Slurm may refuse (an interactive job cannot be requeued, say); a refusal is logged, and returned."""
    try:
        run_command("scontrol", *arguments, timeout_s=timeout_s)
    except SiteError as error:
        log.warning("%s", error)
        return str(error)
    return ""


def configuration() -> dict[str, str]:
    """The cluster's configuration, as `scontrol show config` names it.

    Raises:
        SiteError: scontrol fails.
    """
    pairs = (line.partition("=") for line in run_command("scontrol", "show", "config").splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def max_array_size() -> int:
    """Tasks that one array may have (its largest index is one less); at least 1.

    Raises:
        SiteError: scontrol fails.
    """
    text = configuration().get("MaxArraySize", "1001")
    return max(1, int(text)) if text.isdigit() else 1


def parse_minutes(text: str) -> float | None:
    """A time limit as Slurm writes it ("1-02:30:00", "30:00", "UNLIMITED") in minutes; None: no limit.

    Raises:
        ValueError: another form.
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "NONE", "N/A", "PARTITION_LIMIT"):
        return None
    days, dash, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    if dash:  # D-HH, D-HH:MM or D-HH:MM:SS
        hours, minutes, seconds = (*parts, 0.0, 0.0)[:3]
    elif len(parts) == 1:
        hours, minutes, seconds = 0.0, parts[0], 0.0
    else:  # MM:SS or HH:MM:SS
        hours, minutes, seconds = (0.0, *parts)[-3:]
    return 1440 * float(days or 0) + 60 * hours + minutes + seconds / 60


@dataclass(frozen=True)
class Partition:
    """A partition.

    Attributes:
        max_time_min: longest time limit; None: none.
        accounts: who may use it; empty: everybody.
    """

    name: str
    is_default: bool
    is_up: bool
    max_time_min: float | None
    accounts: tuple[str, ...]


def partitions() -> list[Partition]:
    """The partitions that this user sees.

    Raises:
        SiteError: scontrol fails.
    """
    found = []
    for line in run_command("scontrol", "-o", "show", "partition").splitlines():
        fields = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        if "PartitionName" not in fields:
            continue
        accounts = fields.get("AllowAccounts", "ALL")
        found.append(
            Partition(
                name=fields["PartitionName"],
                is_default=fields.get("Default") == "YES",
                is_up=fields.get("State", "UP") == "UP",
                max_time_min=parse_minutes(fields.get("MaxTime", "UNLIMITED")),
                accounts=() if accounts == "ALL" else tuple(accounts.split(",")),
            )
        )
    return found


@dataclass(frozen=True)
class Node:
    """A node in a partition.

    Attributes:
        address: what other nodes reach it by.
        gres: generic resources, as sinfo writes them ("gpu:a100:4").
    """

    partition: str
    name: str
    address: str
    gres: str
    cpus: int
    memory_mb: int

    def gpus(self, kind: str | None = None) -> int:
        """GPUs of this node, of one type or of any."""
        count = 0
        for resource in self.gres.split(","):
            name, *rest = resource.split("(")[0].split(":")
            if name != "gpu" or (kind is not None and kind not in rest[:-1]):
                continue
            count += int(rest[-1]) if rest and rest[-1].isdigit() else 1
        return count


def host_names(expressions: Sequence[str]) -> list[str]:
    """The hosts that Slurm's expressions stand for ("node[1-3]"), in their order.

    Raises:
        SiteError: scontrol fails.
    """
    if not any("[" in each for each in expressions):
        return list(expressions)
    return run_command("scontrol", "show", "hostnames", ",".join(expressions)).split()


def nodes() -> list[Node]:
    """Every node of every partition that this user sees (one that is in two partitions, twice).

    Raises:
        SiteError: sinfo fails.
    """
    found = []
    for line in run_command("sinfo", "-h", "-N", "-o", "%R|%N|%o|%G|%c|%m").splitlines():
        partition, name, address, gres, cpus, memory_mb = (part.strip() for part in line.split("|"))
        found.append(Node(partition, name, address, gres, int(cpus.rstrip("+")), int(memory_mb.rstrip("+"))))
    return found
