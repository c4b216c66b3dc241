"""The cluster that the other tests stand on is one."""

from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.hosts import USERS, wait_until


def test_a_job_runs_on_the_node_that_it_asked_for_with_its_gpu_and_is_accounted(
    cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = cluster.output(
        "login", "sbatch", "--parsable", "--wait", "-w", "node2", "--gres=gpu:1", f"--output={out}",
        "--wrap=hostname; echo gpu $CUDA_VISIBLE_DEVICES",
    ).strip()  # fmt: skip
    assert out.read_text() == "node2\ngpu 0\n"
    accounted = ("sacct", "-nXP", "-j", job, "-o", "state")
    wait_until(lambda: cluster.output("login", *accounted).strip() == "COMPLETED", 300, "accounting")


def test_hosts_reach_each_other_until_one_is_unplugged(cluster: Cluster) -> None:
    ping = ("timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/login/6817")  # slurmctld's port

    def is_reached() -> bool:
        return cluster.run("node1", *ping, check=False).returncode == 0

    wait_until(is_reached, 300, "node1 to reach the login host")
    cluster.unplug("node1")
    assert not is_reached()
    cluster.plug("node1")
    wait_until(is_reached, 300, "node1 to reach the login host again")


def test_a_host_that_loses_power_loses_its_processes_and_comes_back(cluster: Cluster) -> None:
    cluster.run("node3", "bash", "-c", "echo $$ > /dev/shm/here")
    cluster.power_off("node3")
    cluster.boot("node3")
    assert cluster.run("node3", "cat", "/dev/shm/here", check=False).returncode != 0
    cluster.wait_for_nodes()


def test_what_a_test_leaves_in_the_queue_is_gone_before_the_next(cluster: Cluster) -> None:
    jobs = [
        cluster.output("login", "sbatch", "--parsable", "--chdir=/tmp", "--wrap=sleep 99", *more, user=user).strip()
        for user in ("root", *USERS)
        for more in ((), ("--hold",))
    ]
    cluster.mend()
    assert not cluster.output("login", "squeue", "-h")
    shown = cluster.output("login", "scontrol", "-o", "show", "job", jobs[0])
    assert "Restarts=0 " in shown, "cancelled, not taken from it with its node"
    states = cluster.output("login", "squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%T").split()
    assert set(states) == {"CANCELLED"}
