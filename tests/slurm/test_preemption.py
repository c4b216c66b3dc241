"""Jobs that are preempted with a grace time come back; jobs that are cancelled do not."""

from typing import Any

from tests.slurm.hosts import wait_until
from tests.slurm.runs import LIMIT_S


def test_a_preempted_master_and_hand_run_worker_come_back_and_a_cancelled_one_does_not(shell: Any) -> None:
    master = {"slurm__master": "slurm", "slurm__master_walltime_min": 30, "slurm__master_mem_gb": 0.5}
    run = shell.submit_at_gate(**master, workers__count=0, slurm__partition="spare")
    options = (*run.worker_options(), "--output=/dev/null")
    worker = shell.sbatch(*options, "slurm/worker.sh", str(run.folder.path))
    run.wait_for_workers(1)

    urgent = shell.sbatch("--partition=urgent", "--nodes=3", "--exclusive", "--time=5", "--wrap=sleep 300")
    run.wait(lambda: shell.state(urgent) == "RUNNING", "the urgent job to have the nodes")
    assert shell.state(worker) == "PENDING", run.logs()
    shell.scancel(urgent)

    def are_back() -> Any:
        for name in (run.name, run.master_name):
            shell.hasten_requeued(name)
        return run.status.term == 2 and len(run.events("worker_joined")) == 2 and run.training()

    run.wait(are_back, "both to be back")
    assert "Restarts=1" in shell.cluster.output("login", "scontrol", "-o", "show", "job", worker)

    shell.scancel(worker)
    wait_until(lambda: shell.state(worker) == "CANCELLED", LIMIT_S, "the worker to be gone")
    run.tandem("stop-search")
