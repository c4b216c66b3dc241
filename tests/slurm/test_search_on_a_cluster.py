"""What a person does on a cluster: submit, add workers, watch, stop and resume from any host, collect."""

import csv
import re
from typing import Any

from pipeline.run.folder import RunFolder
from tests.slurm.conftest import MAX_ARRAY_SIZE
from tests.slurm.hosts import wait_until
from tests.slurm.runs import LIMIT_S, Run


def test_a_search_on_three_nodes_says_what_it_asks_for_finishes_and_collects(shell: Any) -> None:
    run = shell.submit_at_gate(workers__count=6, search__iterations=8)  # two GPUs on each of three nodes
    assert (
        "sbatch --array=0-3%4 --signal=USR2@5 --time=10 --nodes=1 --ntasks=1 --cpus-per-task=1 --requeue --mem=512M "
        "--gres=gpu:1 (and 1 more arrays: Slurm takes 4 tasks in one)" in run.said
    )
    for command in ("status", "collect-results", "stop-search"):
        assert f"tandem {command} {run.folder.path}" in run.said
    assert "listens on 10.78.0.1:" in run.folder.master_log.read_text()
    run.wait_for_workers(6)
    run.let_through()
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()

    joined = run.events("worker_joined")
    assert {event["host"] for event in joined} == {"node1", "node2", "node3"}
    assert {event["device"] for event in joined} == {"cuda 0", "cuda 1"}, "each worker sees the one GPU it was given"
    arrays = [event["slurm_job_id"].partition("_") for event in joined]
    sizes = sorted(sum(array == job for array, _, _ in arrays) for job in {array for array, _, _ in arrays})
    assert sizes == [6 - MAX_ARRAY_SIZE, MAX_ARRAY_SIZE], "an array takes no more tasks than Slurm allows"

    text = run.tandem("status", "--once")
    assert ": finished" in text
    assert "Slurm: workers: 0 pending, 0 running" in text
    run.tandem("collect-results")
    assert run.folder.report.is_file()
    with (run.folder.tables / "evaluations.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(run.results)


def test_workers_join_by_sbatch_and_say_which_run_they_joined(shell: Any) -> None:
    run = shell.submit_at_gate(workers__count=0)
    out = shell.home / "worker-%a.out"
    options = (*run.worker_options(), "--array=0-1", "--time=5", f"--output={out}")
    array = shell.sbatch(*options, "slurm/worker.sh", str(run.folder.path))
    wait_until(lambda: len(run.queue()) == 2, LIMIT_S, "the tasks to take the name of the run's workers")
    run.wait_for_workers(2)
    run.let_through()
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()
    assert {event["slurm_job_id"] for event in run.events("worker_joined")} == {f"{array}_0", f"{array}_1"}
    for task in (0, 1):
        assert f"joins run {run.folder.run_id}" in (shell.home / f"worker-{task}.out").read_text()


def test_a_worker_whose_allocation_has_too_little_says_what_it_needs_and_leaves(shell: Any) -> None:
    run = shell.submit_at_gate(workers__count=0, slurm__cpus_per_worker=2)
    out = shell.home / "worker.out"
    job = shell.sbatch("--mem=400M", f"--output={out}", "slurm/worker.sh", str(run.folder.path))
    wait_until(lambda: shell.state(job) == "FAILED", LIMIT_S, "the worker to leave")
    assert "lacks what a worker" in out.read_text()
    assert "1 of 2 CPU cores and memory (400 MB of 512 MB)" in out.read_text()
    assert f"`sbatch $(.venv/bin/tandem worker-options {run.folder.path}) slurm/worker.sh" in out.read_text()
    assert not run.events("worker_joined")
    run.tandem("stop-search")


def test_two_runs_share_a_login_node(shell: Any) -> None:
    runs = [shell.submit_at_gate(name=name, seed=seed) for seed, name in enumerate(("first", "second"))]
    for run in runs:
        run.wait_for_workers(2)
    for run in runs:
        run.let_through()
        run.wait_for_end()
        run.assert_each_evaluation_has_one_result()
    addresses = [run.status.address for run in runs]
    assert len(set(addresses)) == 2
    assert runs[0].events("worker_joined")[0]["worker"] != runs[1].events("worker_joined")[0]["worker"]


def test_a_run_is_stopped_and_resumed_from_another_host_than_its_masters(shell: Any) -> None:
    run = shell.submit_at_gate(search__iterations=8)
    run.let_through(1)
    run.wait(lambda: len(run.results) == 1 and len(run.training()) == 2, "a first result")
    before = len(run.results)
    assert "Stopped" in run.tandem("stop-search", host="node3")
    assert run.status.state == "stopped"
    wait_until(lambda: not run.queue(), LIMIT_S, "the array to be gone")
    stopped = {(r.config_id, r.budget) for r in run.results}
    assert len(stopped) >= before

    renamed = run.folder.path.rename(run.folder.path.with_name("a search with spaces"))
    run = Run(shell, RunFolder(renamed))
    run.tandem("resume-search", host="node3")
    assert run.status.host == "node3"
    run.wait_for_workers(2)
    assert {(r.config_id, r.budget) for r in run.results} >= stopped
    run.tandem("stop-search")


def test_a_worker_that_cannot_reach_the_master_says_so_with_both_addresses_and_frees_its_gpu(shell: Any) -> None:
    shell.cluster.run("login", "ip", "address", "replace", "10.79.0.1/32", "dev", "lo")  # the nodes have no route to it
    run = shell.submit_at_gate(network__address="10.79.0.1", workers__count=1, workers__idle_timeout_min=0.1)
    run.wait(lambda: list(run.folder.logs.glob("worker-*")), "a worker to start")
    (log,) = run.folder.logs.glob("worker-*")
    run.wait(lambda: "leaves: no_master" in log.read_text(), "the worker to leave")
    both = r"this worker on node\d \(10\.78\.0\.1\d; no route\) cannot reach the master at 10\.79\.0\.1:\d+"
    assert re.search(both, log.read_text())
    assert "no master for 6 s: " in log.read_text()
    assert not run.events("worker_joined")


def test_what_the_site_cannot_do_is_refused_before_anything_is_submitted(shell: Any) -> None:
    for asked, said in (
        ({"slurm__partition": "gpus"}, "slurm.partition: there is no partition 'gpus'. Partitions: gpu, cpu, "),
        ({"slurm__walltime_min": 90}, "slurm.walltime_min: 90 min is more than partition gpu allows (60 min)"),
        (
            {"slurm__master": "slurm", "slurm__master_walltime_min": 1440},
            "slurm.master_walltime_min: 1440 min is more than partition gpu allows (60 min)",
        ),
        ({"slurm__account": "nobody"}, "slurm.account: 'nobody' is not one you may charge. Accounts: root."),
        ({"slurm__gpu_type": "a100"}, "no node of partition gpu has a GPU of type 'a100' (it has gpu:2)"),
        ({"slurm__constraint": "fast"}, "Slurm would refuse the workers: "),
        ({"network__address": "ib7"}, "network.address: 'ib7' is no interface of this machine"),
    ):
        assert said in shell.tandem("submit-search", *shell.settings(**asked), check=False)
    assert not list(shell.home.glob("results/*/settings.yaml"))
    assert not shell.cluster.output("login", "squeue", "-h")


def test_a_hand_run_array_task_requeues_itself_alone_and_stays_with_its_run(shell: Any) -> None:
    run = shell.submit_at_gate(workers__count=0, search__iterations=4)
    options = (*run.worker_options(), "--array=0-2", "--output=/dev/null")
    array = shell.sbatch(*options, f"--export=ALL,TANDEM_RESULTS={shell.home}/results", "slurm/worker.sh")
    run.wait_for_workers(3)
    other = shell.submit_at_gate(name="other", workers__count=0)  # the latest run from now on
    before = {e["slurm_job_id"]: e["worker"] for e in run.events("worker_joined")}
    last = f"{array}_2"  # its SLURM_JOB_ID is the array's own
    shell.scancel("--signal=USR1", last)

    def is_back() -> Any:
        shell.hasten_requeued(run.name)
        return sum(e["slurm_job_id"] == last for e in run.events("worker_joined")) == 2

    run.wait(is_back, "the requeued task to join its run again")
    assert run.queue() == dict.fromkeys((f"{array}_0", f"{array}_1", last), "RUNNING")
    assert {before[f"{array}_0"], before[f"{array}_1"]} <= set(run.training())
    assert "Restarts=0" in shell.cluster.output("login", "scontrol", "-o", "show", "job", f"{array}_0")
    assert not other.events("worker_joined")
    for each in (run, other):
        each.tandem("stop-search")


def test_stopping_a_run_whose_master_waits_in_the_queue_takes_it_out(shell: Any) -> None:
    shell.sbatch("--nodes=3", "--exclusive", "--time=5", "--wrap=sleep 300")
    run = shell.submit_at_gate(slurm__master="slurm", slurm__master_partition="cpu", slurm__master_mem_gb=0.5)
    assert "was cancelled before it started" in run.tandem("stop-search")
    assert not shell.cluster.output("login", "squeue", "-h", "-n", run.master_name)
    shell.scancel("--name=wrap")
