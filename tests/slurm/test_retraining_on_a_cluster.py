"""Baselines and a run's incumbent as Slurm arrays, from the login node to the table of results."""

from pathlib import Path

from pipeline.run.creation import read_settings
from pipeline.storage.curves import read_attempt
from pipeline.storage.results import load_results
from pipeline.storage.retrained import baseline_folder
from tests.slurm.hosts import wait_until
from tests.slurm.runs import Shell

BASELINES = {"resnet18", "shake_shake_26_2x32d", "shake_shake_26_2x64d", "shake_shake_26_2x96d"}
# The largest baseline has 26 M parameters.
ROOMY = {"search__max_budget": 3, "slurm__mem_gb": 2}


def ends(folder: Path) -> dict[str, str]:
    """Status of each training in a folder that has ended, by the name of its file."""
    found = {path.stem: read_attempt(path)[2] for path in folder.glob("*.h5")}
    return {name: end.status for name, end in found.items() if end is not None}


def test_baselines_and_the_incumbent_are_trained_as_arrays_and_reported(shell: Shell) -> None:
    said = shell.tandem("baselines", "--preset", "digits", "--seeds", "1", *shell.settings(**ROOMY))
    assert "4 to do" in said
    assert "Submitted as" in said
    run = shell.submit(**ROOMY)
    run.wait_for_end()
    assert "Submitted as" in run.tandem("retrain-incumbent", "--seeds", "2")

    baselines = baseline_folder(shell.home / "results", read_settings(run.folder))
    retrained = run.folder.path / "retrained"
    wait_until(lambda: len(ends(baselines)) == 4 and len(ends(retrained)) == 2, 180, "the trainings to end", 0.5)
    assert ends(baselines) == {f"{name}-s0": "finished" for name in BASELINES}
    assert ends(retrained) == {"incumbent-s0": "finished", "incumbent-s1": "finished"}

    hosts = {read_attempt(path)[0].host for path in baselines.glob("*.h5")}
    assert hosts <= {"node1", "node2", "node3"}
    again = shell.tandem("baselines", "--run", run.folder.run_id, "--seeds", "1")
    assert "0 to do" in again
    run.tandem("collect-results")
    table = load_results(run.folder.collected).retrained
    assert set(table["model"]) == {*BASELINES, "incumbent"}
    assert table["test_error"].between(0, 1).all()


def test_a_retraining_whose_time_is_up_is_requeued_and_goes_on_from_its_checkpoint(shell: Shell) -> None:
    run = shell.submit(search__min_budget=1500, search__max_budget=1500, workers__count=4)
    run.wait_for_end()
    said = run.tandem("retrain-incumbent", "--seeds", "1")
    job = said.partition("Submitted as ")[2].partition(".")[0]
    path = run.folder.path / "retrained" / "incumbent-s0.h5"
    wait_until(lambda: path.exists() and len(read_attempt(path)[1]["epoch"]) > 0, 90, "the training's first row", 0.1)
    shell.cluster.run("login", "scancel", "--signal=USR2", job)
    wait_until(lambda: read_attempt(path)[2] is not None, 60, "the training to stop", 0.1)
    assert read_attempt(path)[2].status == "handed_back"

    def is_finished() -> bool:
        shell.hasten_requeued("tandem-incumbent")
        end = read_attempt(path)[2]
        return end is not None and end.status == "finished"

    wait_until(is_finished, 120, "the requeued training to finish", 1.0)
    header, rows, _ = read_attempt(path)
    assert header.continued_from == "attempt 1"
    assert rows["batches"][-1] == 1500
    assert set(rows["attempt"]) == {1, 2}
