"""A Slurm cluster on one machine, for tests: login, node1 to node3 with two pretend GPUs each, and accounting.

Needs root on Debian or Ubuntu and the packages below. Everything lies in one folder and ends with the process that
started it; nothing of the machine's own network, processes or Slurm is touched. Starting takes about ten seconds.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.slurm.hosts import NETWORK, Host, wait_until

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server iproute2 util-linux procps"
COMMANDS = (
    "slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "mariadb-install-db", "mariadb-admin",
    "ip", "unshare", "nsenter", "setpriv",
)  # fmt: skip
NODES = ("node1", "node2", "node3")
GPUS_PER_NODE = 2
CPUS_PER_NODE = 4
# Cancelled jobs end within KillWait (10 s).
ENDED_S = 15.0

SLURM_CONF = """\
ClusterName=lab
SlurmctldHost=login({login})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={run}/munge.sock
CredType=cred/munge
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/slurmd-%n.pid
SlurmdSpoolDir={state}/spool/%n
StateSaveLocation={state}/saved
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd-%n.log
# No systemd and perhaps no cgroups here.
ProctrackType=proctrack/linuxproc
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
GresTypes=gpu
# Quick reactions: Slurm's defaults are 300 s until a silent node is down and 30 s from TERM to KILL.
ReturnToService=2
SlurmdTimeout=10
KillWait=10
MessageTimeout=5
TCPTimeout=2
UnkillableStepTimeout=20
InactiveLimit=0
MinJobAge=3600
JobRequeue=1
MaxArraySize={max_array_size}
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=1,bf_window=60
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=login
# With munge this is the path of munge's socket.
AccountingStoragePass={run}/munge.sock
AccountingStorageTRES=gres/gpu
NodeName=node[1-3] NodeAddr={network}.[11-13] CPUs={cpus} RealMemory=8000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=60 State=UP PreemptMode=OFF
PartitionName=cpu Nodes=ALL MaxTime=INFINITE State=UP PreemptMode=OFF
# A job of `urgent` takes nodes away from jobs of `spare`, which have so many seconds to end in order.
PartitionName=spare Nodes=ALL MaxTime=60 State=UP GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={run}/munge.sock
DbdHost=login
SlurmUser=root
PidFile={run}/slurmdbd.pid
LogFile={log}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_accounting
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None: one can."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if os.geteuid() != 0 or missing:
        lacks = f"; missing: {', '.join(missing)}" if missing else ""
        return (
            f"a real Slurm cluster needs root on Debian or Ubuntu, and "
            f"`apt-get install -y --no-install-recommends {PACKAGES}`{lacks}"
        )
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        return f"a real Slurm cluster needs namespaces, and this machine refuses them: {tried.stderr.decode().strip()}"
    return None


def _slurm_version() -> int:
    """Its year: 22, 24, ..."""
    said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout  # "slurm-wlm 22.05.8"
    return int(said.split()[-1].partition(".")[0])


class Cluster:
    """The cluster; use as a context manager.

    Attributes:
        state: the folder of everything it writes.
    """

    def __init__(self, state: Path, max_array_size: int = 1001) -> None:
        self.state = state
        self.fabric = Host("fabric", None, state)
        self.hosts = {"login": Host("login", f"{NETWORK}.1", state)}
        for number, name in enumerate(NODES, start=11):
            self.hosts[name] = Host(name, f"{NETWORK}.{number}", state)
        self._max_array_size = max_array_size

    def __enter__(self) -> Cluster:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    # Hosts -------------------------------------------------------------------------------------------------------
    def boot(self, name: str) -> None:
        """Boot a host and start its Slurm daemon."""
        host = self.hosts[name]
        if host.is_on:
            return
        host.boot(self._names())
        host.connect(self.fabric)
        if name == "login":
            self._start_controller()
        else:
            (self.state / "spool" / name).mkdir(parents=True, exist_ok=True)
            self.run(name, "slurmd")

    def power_off(self, name: str) -> None:
        """Cut a host's power."""
        self.hosts[name].power_off()

    def unplug(self, name: str) -> None:
        """Cut a host's network cable."""
        self.hosts[name].unplug(self.fabric)

    def plug(self, name: str) -> None:
        """Mend a host's network cable."""
        self.hosts[name].plug(self.fabric)

    def _names(self) -> dict[str, str]:
        return {name: str(host.address) for name, host in self.hosts.items()}

    # Running things ----------------------------------------------------------------------------------------------
    def environment(self, name: str, user: str = "root") -> dict[str, str]:
        """The environment of a person's shell on a host."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SLURMD_", "SBATCH_", "TANDEM_"))}
        person = {"USER": user, "LOGNAME": user, **({} if user == "root" else {"HOME": "/tmp"})}
        return {**kept, **person, "SLURM_CONF": str(self.state / "etc/slurm.conf"), "HOSTNAME": name}

    def run(
        self,
        host: str,
        *command: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        limit_s: float = 600,
        user: str = "root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, as the administrator or a person, and return what it printed.

        Raises:
            RuntimeError: it failed, and `check` is on.
        """
        done = subprocess.run(
            self.hosts[host].enter(*command, user=user),
            env={**self.environment(host, user), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{host}: {' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return done

    def output(self, host: str, *command: str, **options: Any) -> str:
        """What a command printed on standard output."""
        return self.run(host, *command, **options).stdout

    # The whole ---------------------------------------------------------------------------------------------------
    def up(self) -> None:
        """Start everything, and wait until every node is idle."""
        self._configure()
        self.fabric.boot(self._names())
        self.fabric.run_network("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        self.fabric.run_network("ip", "link", "set", "switch", "up")
        self._start_munge()
        self._start_database()
        for name in self.hosts:
            self.boot(name)
        self.wait_for_nodes()

    def down(self) -> None:
        """Stop everything."""
        for host in (*self.hosts.values(), self.fabric):
            host.power_off()

    def mend(self) -> None:
        """Cancel every job, and boot and plug every host: as it was at the start."""
        for name in self.hosts:
            self.boot(name)
            self.plug(name)

        def is_empty() -> bool:  # a master that was killed may have left a submission under way
            jobs = self.output("login", "squeue", "-h", "-o", "%F").split()
            if jobs:
                self.run("login", "scancel", *jobs, check=False)
            return not jobs

        try:
            wait_until(is_empty, ENDED_S, "the queue to become empty", 0.3)
        except TimeoutError:
            # What a node told a controller that was down it repeats after a minute; a node that is down holds no job.
            for name in NODES:
                self.power_off(name)
                self.run("login", "scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=mended")
                self.boot(name)
            wait_until(is_empty, 300, "the queue to become empty", 0.3)
        for name in NODES:  # a node that was down while a job ended may have been drained
            self.run("login", "scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
        self.wait_for_nodes()

    @contextmanager
    def configured(self, **lines: str) -> Iterator[None]:
        """Run the controller with other values for some lines of slurm.conf, and as before afterwards."""
        path = self.state / "etc/slurm.conf"
        before = path.read_text()
        kept = [line for line in before.splitlines() if line.partition("=")[0] not in lines]
        try:
            path.write_text("\n".join([*(f"{name}={value}" for name, value in lines.items()), *kept]) + "\n")
            self._restart_controller()
            yield
        finally:
            path.write_text(before)
            self._restart_controller()

    def wait_for_nodes(self, limit_s: float = 300) -> None:
        """Wait until every node is idle and answers."""

        def are_idle() -> bool:
            lines = self.run("login", "sinfo", "-h", "-N", "-p", "gpu", "-o", "%T", check=False).stdout.split()
            return lines == ["idle"] * len(NODES)

        wait_until(are_idle, limit_s, f"nodes to become idle (logs in {self.state}/log)")

    def wait_for_gpus(self, limit_s: float = 300) -> None:
        """Wait until the controller takes jobs that need one: after its start, its nodes have to tell it first."""
        job = ("sbatch", "--test-only", "--gres=gpu:1", "--time=1", "--wrap=true")
        wait_until(lambda: self.run("login", *job, check=False).returncode == 0, limit_s, "the nodes' GPUs")

    # Daemons -----------------------------------------------------------------------------------------------------
    def _configure(self) -> None:
        self.state.chmod(0o755)  # munge wants its socket's folder open to everybody
        for folder in ("etc", "run", "log", "saved", "spool", "dev", "munge", "mysql"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        values = {
            "state": self.state,
            "run": self.state / "run",
            "log": self.state / "log",
            "login": self.hosts["login"].address,
            "network": NETWORK,
            "cpus": CPUS_PER_NODE,
            "gpus": GPUS_PER_NODE,
            "max_array_size": self._max_array_size,
        }
        etc = self.state / "etc"
        (etc / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (etc / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))
        (etc / "slurmdbd.conf").chmod(0o600)
        for number in range(GPUS_PER_NODE):  # twins of /dev/null stand in for GPUs
            os.mknod(self.state / f"dev/nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        if _slurm_version() >= 24:  # older ones ask for no cgroups, and do not know the word
            (etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        files = f"{self.state}/dev/nvidia[0-{GPUS_PER_NODE - 1}]"
        (etc / "gres.conf").write_text(f"NodeName=node[1-3] Name=gpu File={files}\n")

    def _run_on_fabric(self, *command: str, check: bool = True) -> int:
        done = subprocess.run(self.fabric.enter(*command), capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.returncode

    def _start_munge(self) -> None:
        key = self.state / "munge/munge.key"
        (self.state / "munge").chmod(0o700)
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        run, log = self.state / "run", self.state / "log"
        self._run_on_fabric(
            "munged", f"--key-file={key}", f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log", f"--seed-file={self.state}/munge/seed",
        )  # fmt: skip

    def _start_database(self) -> None:
        data, socket, log = self.state / "mysql", self.state / "run/mysql.sock", self.state / "log/mariadb.log"
        subprocess.run(
            [
                "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db",
                "--auth-root-authentication-method=socket",
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        server = [
            "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--user=root", "--skip-networking",
            f"--pid-file={self.state}/run/mariadb.pid", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M", "--innodb-lock-wait-timeout=900",
            "--skip-log-bin", "--performance-schema=OFF",
        ]  # fmt: skip
        with log.open("ab") as output:
            # It ends with the fabric's namespace.
            subprocess.Popen(
                self.fabric.enter(*server),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        ping = ("mariadb-admin", "--no-defaults", f"--socket={socket}", "ping")
        wait_until(lambda: self._run_on_fabric(*ping, check=False) == 0, 300, f"MariaDB to answer ({log})")

    def _start_controller(self) -> None:
        database = {"MYSQL_UNIX_PORT": str(self.state / "run/mysql.sock")}
        self.run("login", "slurmdbd", env=database)
        clusters = ("sacctmgr", "-nP", "list", "cluster", "format=cluster")
        wait_until(lambda: self.run("login", *clusters, check=False).returncode == 0, 300, "slurmdbd to answer")
        if "lab" not in self.output("login", *clusters).split():
            self.run("login", "sacctmgr", "-i", "add", "cluster", "lab")
        self._run_controller()

    def _run_controller(self) -> None:
        self.run("login", "slurmctld")
        ping = ("scontrol", "ping")
        wait_until(lambda: self.run("login", *ping, check=False).returncode == 0, 300, "slurmctld to answer")

    def _restart_controller(self) -> None:
        pid = (self.state / "run/slurmctld.pid").read_text().strip()  # as the login node counts processes
        self.run("login", "kill", pid, check=False)
        gone = ("kill", "-0", pid)
        wait_until(lambda: self.run("login", *gone, check=False).returncode != 0, 300, "slurmctld to end")
        self._run_controller()
