"""Where a run's processes live is decided once."""

from typing import Never

import pytest

from pipeline.cluster import slurm
from pipeline.errors import SiteError
from pipeline.launch import choice
from pipeline.launch.choice import backend_for, settle_where
from pipeline.launch.local_backend import LocalBackend
from pipeline.launch.slurm_backend import SlurmBackend
from pipeline.run.folder import RunFolder
from pipeline.settings import validate_settings
from pipeline.settings.schema import Settings


def settings(where: str) -> Settings:
    return validate_settings({"workers": {"where": where}})


@pytest.mark.parametrize(("has_slurm", "where"), [(True, "slurm"), (False, "local")])
def test_a_new_run_lives_where_there_is_a_place_for_it(
    monkeypatch: pytest.MonkeyPatch, has_slurm: bool, where: str
) -> None:
    monkeypatch.setattr(slurm, "has_slurm", lambda: has_slurm)
    assert settle_where(settings("auto")).workers.where == where
    assert settle_where(settings("local")).workers.where == "local"


def test_a_run_that_insists_on_slurm_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "has_slurm", lambda: False)
    with pytest.raises(SiteError, match="belongs to no Slurm cluster"):
        settle_where(settings("slurm"))


def test_a_decided_run_asks_no_cluster_where_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "has_slurm", lambda: pytest.fail("asked"))
    assert isinstance(backend_for(settings("slurm")), SlurmBackend)
    assert isinstance(backend_for(settings("local")), LocalBackend)


def test_slurm_is_asked_for_the_queue_once_in_a_while_also_when_it_does_not_answer(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def tasks(names: list[str], of_user: int) -> Never:
        asked.append(names)
        raise SiteError("squeue did not answer")

    monkeypatch.setattr(slurm, "tasks", tasks)
    assert [choice.queue_state(run) for _ in range(3)] == [None] * 3
    assert len(asked) == 1
    monkeypatch.setattr(choice, "QUEUE_REFRESH_S", 0.0)
    choice.queue_state(run)
    assert len(asked) == 2
