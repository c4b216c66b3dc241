"""Another user of the cluster looks at a run, and can do nothing to it."""

from pathlib import Path

from tests.slurm.hosts import OTHER_USER, USER, USERS
from tests.slurm.runs import Shell


def test_another_user_sees_a_run_and_its_tasks_and_is_refused_everything_else_in_one_line(shell: Shell) -> None:
    run = shell.submit_at_gate()
    run.wait_for_workers(2)
    assert set(shell.cluster.output("login", "squeue", "-h", "-o", "%u").split()) == {USER}
    assert {path.stat().st_uid for path in run.folder.path.rglob("*")} == {USERS[USER]}

    other = Shell(shell.cluster, shell.home, Path("/nowhere"), OTHER_USER)
    assert "Slurm: workers: 0 pending, 2 running" in other.tandem("status", str(run.folder.path))
    for command, said in (
        ("stop-search", f"Run {run.folder.run_id} is user {USER}'s: only they can stop it."),
        ("resume-search", f"Run {run.folder.run_id} is user {USER}'s: only they can resume it."),
        ("collect-results", f"Run {run.folder.run_id} is user {USER}'s, and results are written into its folder"),
    ):
        (line,) = other.tandem(command, str(run.folder.path), check=False).splitlines()
        assert said in line
    denied = other.cluster.run("login", "scancel", *run.queue(), check=False, user=OTHER_USER)
    assert "Access/permission denied" in denied.stderr

    run.let_through()
    run.wait_for_end()
    run.assert_each_evaluation_has_one_result()
