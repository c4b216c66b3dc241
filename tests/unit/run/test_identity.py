"""A run is told from its copies, and from runs of the same name elsewhere."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import slurm
from pipeline.errors import RunError
from pipeline.joining import stock_worker_lines
from pipeline.launch.tasks import WorkerTask
from pipeline.rpc.master_address import MasterAddress, publish_master_address, read_master_address
from pipeline.rpc.tls import ensure_authority
from pipeline.run import creation
from pipeline.run.creation import create_run
from pipeline.run.folder import RunFolder
from pipeline.run.identity import find_by_label, original_of, require_no_copy, run_label, settle_identity
from pipeline.settings import load_settings
from pipeline.worker import worker
from pipeline.worker.process import be_worker, work


@pytest.fixture
def run(tmp_path: Path) -> Any:
    folder = create_run(load_settings("digits"), tmp_path / "results")
    folder.tls.mkdir()
    publish_master_address(folder, MasterAddress(folder.run_id, 1, "login", "10.0.0.1", 99, run_label(folder)))
    return folder


@pytest.fixture
def copy(run: Any) -> Any:
    shutil.copytree(run.path, run.path.with_name("copy"))
    return RunFolder(run.path.with_name("copy"))


def test_two_runs_that_are_submitted_in_the_same_second_have_labels_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation.time, "strftime", lambda form: "20261126-110000")
    runs = [create_run(load_settings("digits"), tmp_path / name) for name in ("a", "b")]
    assert runs[0].run_id == runs[1].run_id
    assert len({run_label(run) for run in runs}) == 2


def test_nobody_joins_a_copy_before_it_is_resumed(run: Any, copy: Any) -> None:
    require_no_copy(run)
    assert original_of(copy) == run.path
    with pytest.raises(RunError, match=f"is a copy of the run in {run.path}.*`tandem resume-search {copy.path}`"):
        require_no_copy(copy)


def test_no_way_to_become_a_worker_lets_a_copy_join_its_original(
    run: Any, copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(slurm, "take_workers_name", done.append)
    monkeypatch.setattr(worker, "run_worker", lambda folder, *_, **__: done.append("joined") or "ended")
    shutil.rmtree(run.tls)
    ensure_authority(run.tls, run_label(run))
    shutil.copytree(run.tls, copy.tls, dirs_exist_ok=True)
    ways: list[Callable[[RunFolder], object]] = [work, be_worker, lambda it: WorkerTask(it.path)(), stock_worker_lines]
    for become_worker in ways:
        with pytest.raises(RunError, match="is a copy of the run in"):
            become_worker(copy)
    assert done == []
    assert {path.name for path in copy.tls.iterdir()} == {"authority.pem", "authority.key"}
    assert not copy.logs.exists()
    assert any("nameserver='10.0.0.1'" in line for line in stock_worker_lines(run))


def test_a_copy_that_is_resumed_has_another_label_and_makes_certificates_of_its_own(run: Any, copy: Any) -> None:
    settle_identity(copy)
    require_no_copy(copy)
    assert run_label(copy) != run_label(run)
    assert run_label(copy).startswith("copy-")
    assert not copy.tls.exists()
    assert read_master_address(copy) is None
    label = run_label(copy)
    settle_identity(copy)
    assert run_label(copy) == label
    assert read_master_address(run).port == 99


def test_the_address_of_another_runs_master_is_none(run: Any, copy: Any) -> None:
    settle_identity(copy)
    shutil.copy(run.master_address, copy.master_address)
    assert read_master_address(copy) is None


def test_a_run_that_is_moved_keeps_its_label_and_its_workers(run: Any, tmp_path: Path) -> None:
    label = run_label(run)
    moved = RunFolder(run.path.rename(tmp_path / "results/renamed"))
    require_no_copy(moved)
    settle_identity(moved)
    assert (run_label(moved), moved.tls.exists()) == (label, True)
    assert find_by_label(tmp_path / "results", label) == moved
    for name in ("a-copy", "b-damaged"):
        shutil.copytree(moved.path, tmp_path / "results" / name)
    RunFolder(tmp_path / "results/b-damaged").identity.write_text("{")
    assert find_by_label(tmp_path / "results", label) == moved
    assert original_of(RunFolder(tmp_path / "results/a-copy")) == moved.path


def test_a_run_of_a_version_without_labels_keeps_the_names_of_its_jobs(run: Any) -> None:
    run.identity.unlink()
    assert run_label(run) == run.run_id
    settle_identity(run)
    assert run_label(run) == run.run_id


def test_a_damaged_identity_is_told_with_what_mends_it(run: Any) -> None:
    run.identity.write_text("[]")
    with pytest.raises(RunError, match=r"identity\.json cannot be read .* remove it, and resume"):
        run_label(run)
