"""Baselines and a run's incumbent as Slurm arrays, from the login node to the table of results."""

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.storage.curves import read_attempt
from pipeline.storage.retrained import find_retrained
from tests.slurm.hosts import wait_until
from tests.slurm.runs import LIMIT_S, Shell

BASELINES = {"resnet18", "shake_shake_26_2x32d", "shake_shake_26_2x64d", "shake_shake_26_2x96d"}


def ends(folder: Path) -> dict[str, str]:
    """Status of each training in a folder that has ended, by the name of its file."""
    found = {path.stem: read_attempt(path)[2] for path in folder.glob("*.h5")}
    return {name: end.status for name, end in found.items() if end is not None}


def test_baselines_are_trained_as_an_array(shell: Shell) -> None:
    # The largest baseline has 26 M parameters.
    asked = shell.settings(search__min_budget=1, search__max_budget=1, slurm__mem_gb=2)
    said = shell.tandem("baselines", "--preset", "digits", "--seeds", "1", *asked)
    assert "4 to do" in said
    assert "Submitted as" in said

    def folder() -> Path | None:
        return next((path.parent for path in shell.home.glob("results/baselines/*/*/*.h5")), None)

    wait_until(lambda: (there := folder()) is not None and len(ends(there)) == 4, LIMIT_S, "four trainings", 1.0)
    baselines = folder()
    assert baselines is not None
    assert ends(baselines) == {f"{name}-s0": "finished" for name in BASELINES}
    assert {read_attempt(path)[0].host for path in baselines.glob("*.h5")} <= {"node1", "node2", "node3"}
    assert "0 to do" in shell.tandem("baselines", "--preset", "digits", "--seeds", "1", *asked)


def test_an_incumbent_is_trained_as_an_array_and_one_whose_time_is_up_goes_on_from_its_checkpoint(shell: Shell) -> None:
    budget = 400  # batches: seconds on a quiet machine, and enough of them to stop it in the middle
    run = shell.submit(search__min_budget=budget, search__max_budget=budget, workers__count=1)  # one evaluation
    run.wait_for_end()
    said = run.tandem("retrain-incumbent", "--seeds", "2")
    job = said.partition("Submitted as ")[2].partition(".")[0]
    retrained = run.folder.path / "retrained"
    path = retrained / "incumbent-s0.h5"
    wait_until(
        lambda: path.exists() and len(read_attempt(path)[1]["epoch"]) > 0, LIMIT_S, "the training's first row", 0.1
    )
    shell.scancel("--signal=USR2", f"{job}_0")
    wait_until(lambda: read_attempt(path)[2] is not None, LIMIT_S, "the training to stop", 0.1)
    assert read_attempt(path)[2].status == "handed_back"

    again = run.tandem("retrain-incumbent", "--seeds", "2")
    assert "0 to do" in again, "one that is in the queue is not submitted twice"

    def are_finished() -> bool:
        shell.hasten_requeued("tandem-incumbent")
        return ends(retrained) == {"incumbent-s0": "finished", "incumbent-s1": "finished"}

    wait_until(are_finished, LIMIT_S, "both trainings to finish", 1.0)
    header, rows, _ = read_attempt(path)
    assert header.continued_from == "attempt 1"
    assert rows["batches"][-1] == budget
    assert set(rows["attempt"]) == {1, 2}
    table: Any = pd.DataFrame(find_retrained(retrained)[0])
    assert set(table["model"]) == {"incumbent"}
    assert table["test_error"].between(0, 1).all()
