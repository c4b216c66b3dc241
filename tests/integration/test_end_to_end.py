"""What a newcomer does, through the command line: real processes, real training, small budgets."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.run.folder import RunFolder, find_run
from pipeline.run.history import read_history
from pipeline.run.status import read_status
from pipeline.settings import load_settings, preset_names
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results

SMALL = [
    "search.budget_unit=batches", "search.min_budget=4", "search.max_budget=36", "search.eta=3", "search.iterations=3",
    "workers.where=local", "training.device=cpu", "training.threads=1",
]  # fmt: skip
# What the digits preset narrows keeps a CPU's steps short on any images.
NARROW = json.dumps({name: list(limits) for name, limits in load_settings("digits").space.items()})


def tandem(*arguments: object, check: bool = True, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if check and done.returncode != 0:
        raise AssertionError(f"tandem {' '.join(map(str, arguments))} failed:\n{done.stdout}\n{done.stderr}")
    return done


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 150) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.2)


def submit(results: Path, preset: str, *overrides: str) -> RunFolder:
    tandem("submit-search", "--preset", preset, "--results", results, *sets(*SMALL, *overrides))
    return find_run(results)


def ended(folder: RunFolder) -> bool:
    status = read_status(folder)
    return status is not None and status.has_ended


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A search on digits that has ended and was collected."""
    results = tmp_path_factory.mktemp("results")
    folder = submit(results, "digits", f"data.root={tmp_path_factory.mktemp('data')}")
    try:
        # Collecting works on a run that is going on.
        wait_until(lambda: len(read_history(folder).results) >= 3, "three results")
        tandem("collect-results", folder.path)
        wait_until(lambda: ended(folder), "the end of the search")
    finally:
        tandem("stop-search", folder.path)
    assert read_status(folder).state == "finished", folder.master_log.read_text()
    tandem("collect-results", folder.path)
    return folder


def test_a_search_finishes_and_every_evaluation_has_its_curve(digits_run: RunFolder) -> None:
    results = load_results(digits_run.collected)
    finished = results.finished()
    # Brackets of 9/3/1, 3/1 and 3 configurations.
    assert sorted(finished.groupby("budget").size().to_list()) == [5, 6, 9]
    for position in finished.index:
        curve = results.curve(position)
        assert curve["batches"].iloc[-1] == finished.loc[position, "budget"]
        assert np.isfinite(curve["validation_error"].iloc[-1])
        assert (np.diff(curve["training_s"]) >= 0).all()


def test_the_run_folder_holds_what_its_readme_says(digits_run: RunFolder) -> None:
    for path in (
        digits_run.settings, digits_run.provenance, digits_run.configspace, digits_run.configs, digits_run.results,
        digits_run.journal, digits_run.collected, digits_run.report, digits_run.tables / "evaluations.csv",
        digits_run.tables / "learning_curves.csv", digits_run.tables / "incumbents.csv",
    ):  # fmt: skip
        assert path.is_file(), path
    assert find_run(digits_run.path.parent).path == digits_run.path, "latest points to it"


def test_stock_hpbandster_loads_the_run(digits_run: RunFolder) -> None:
    from hpbandster.core.result import logged_results_to_HBS_result

    result = logged_results_to_HBS_result(str(digits_run.path))
    assert len(result.get_all_runs()) == len(read_history(digits_run).results)
    assert result.get_incumbent_id() is not None
    assert max(result.HB_config["budgets"]) == 36


def test_the_files_of_a_run_imply_every_proposal_and_promotion(digits_run: RunFolder) -> None:
    assert "follows from the files" in tandem("verify", digits_run.path).stdout


def test_status_of_an_ended_run_is_plain_lines_in_a_pipe(digits_run: RunFolder) -> None:
    lines = tandem("status", digits_run.path).stdout
    assert "finished" in lines.splitlines()[0]
    assert "Incumbent on 36 batches" in lines


def test_a_stock_worker_cannot_join_a_run_that_has_ended(digits_run: RunFolder) -> None:
    done = tandem("stock-worker", digits_run.path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no master at work" in done.stderr


def test_provenance_says_where_the_run_came_from(digits_run: RunFolder) -> None:
    provenance = json.loads(digits_run.provenance.read_text())
    assert provenance["packages"]["hpbandster"] == "0.7.4"
    assert "submit-search" in provenance["command"]


def trim(folder: RunFolder) -> None:
    """Remove from a collected run what docs/disk.md says may go."""
    page = (Path(__file__).parents[2] / "docs" / "disk.md").read_text()
    section = page.partition("## Making a finished run smaller")[2].partition("Keep the rest")[0]
    listed = [line.partition(":")[0] for line in section.splitlines() if line.startswith("- ")]
    names = re.findall(r"`([^`]+)`", " ".join(listed))
    assert {"checkpoints/", "attempts/", "jobs/", "tls/", "report.html"} < set(names)
    for name in names:
        path = folder.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def test_a_run_is_stopped_trimmed_resumed_extended_and_compared(tmp_path: Path) -> None:
    folder = submit(tmp_path, "digits", f"data.root={tmp_path}/data", "search.iterations=2")
    try:
        wait_until(lambda: len(read_history(folder).results) >= 2, "two results")
        tandem("stop-search", folder.path)
        status = read_status(folder)
        assert status.state == "stopped"
        before = read_history(folder)
        collected = load_results(collect(folder))
        trim(folder)
        tandem("resume-search", folder.path, "--iterations", 3)
        wait_until(lambda: ended(folder) and read_status(folder).term > status.term, "the end of the resumed search")
    finally:
        tandem("stop-search", folder.path)
    after = read_history(folder)
    assert after.draws[: len(before.draws)] == before.draws
    assert after.results[: len(before.results)] == before.results
    keys = [(r.config_id, r.budget) for r in after.results]
    assert len(keys) == len(set(keys)) == 20
    whole = load_results(collect(folder))
    trim(folder)
    assert "follows from the files" in tandem("verify", folder.path).stdout
    tandem("compare", "--results", tmp_path, folder.run_id)
    results = load_results(folder.collected)
    pd.testing.assert_frame_equal(results.evaluations, whole.evaluations)
    pd.testing.assert_frame_equal(results.learning_curves, whole.learning_curves)
    for number in range(len(before.results)):
        assert len(results.curve(number)) == len(collected.curve(number)) > 0


def write_cifar10(root: Path, per_batch: int = 60) -> None:
    """A small set in CIFAR-10's own format: five training batches and a test batch, pickled as published."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = random.integers(10, size=per_batch)
        images = random.integers(256, size=(per_batch, 3072), dtype=np.uint8)
        content = {b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": images, b"filenames": []}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))


def test_the_cifar10_preset_trains_on_a_directory_in_cifar10s_own_format(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data")
    folder = submit(
        tmp_path / "results", "cifar10", f"data.root={tmp_path}/data", f"space={NARROW}", "workers.count=2",
        "search.min_budget=1", "search.max_budget=3", "search.iterations=1",
    )  # fmt: skip
    try:
        wait_until(lambda: ended(folder), "the end of the search")
    finally:
        tandem("stop-search", folder.path)
    results = read_history(folder).results
    assert len([r for r in results if r.loss is not None]) == 4
    assert {r.info["continued_from"] for r in results} == {"start"}, "the paper trains every promotion from scratch"


def test_a_wrong_setting_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    done = tandem("submit-search", "--results", tmp_path / "results", "--set", "search.eta=1", check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "search.eta" in done.stderr
    assert not (tmp_path / "results").exists()


def test_missing_data_names_the_file_and_the_command(tmp_path: Path) -> None:
    done = tandem("submit-search", "--preset", "cifar10", "--results", tmp_path / "results",
                  *sets(f"data.root={tmp_path}/data", "workers.where=local"), check=False)  # fmt: skip
    assert done.returncode == 2
    assert "cifar" in done.stderr
    assert f"tandem data cifar10 --set data.root={tmp_path}/data" in done.stderr
    assert not (tmp_path / "results").exists()


def test_no_run_is_an_error_that_says_how_to_start_one(tmp_path: Path) -> None:
    done = tandem("status", "--results", tmp_path, check=False)
    assert done.returncode == 2
    assert "make submit-search" in done.stderr


def test_baselines_of_a_run_take_no_other_settings(tmp_path: Path) -> None:
    for more in (("--preset", "digits"), sets("search.eta=4")):
        done = tandem("baselines", "--results", tmp_path, "--run", "any", *more, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "tandem: --run takes all settings from that run: leave out --preset and --set, or leave out --run."
        ]


def test_help_answers_without_the_heavy_libraries() -> None:
    heavy = ("torch", "hpbandster", "Pyro4", "submitit", "h5py", "ConfigSpace")
    code = f"import sys, pipeline.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "submit-search" in tandem("--help").stdout


def test_every_preset_is_listed() -> None:
    assert set(preset_names()) <= {line.strip() for line in tandem("presets").stdout.splitlines()}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_demo_that_is_interrupted_is_stopped_collected_and_tells_it_by_its_exit_status(tmp_path: Path) -> None:
    told = tmp_path / "told"
    overrides = sets(
        "search.method=random", "search.budget_unit=batches", "search.max_budget=4", "search.iterations=1000",
        "workers.count=1", "workers.where=local", "training.threads=1", f"hooks.on_end=echo $TANDEM_EVENT >> {told}",
    )  # fmt: skip
    # A shell makes what it starts in the background deaf to SIGINT, and children inherit that.
    deaf = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        demo = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "demo", "--quiet", "--results", str(tmp_path), *overrides],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,  # warnings
            text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, deaf)

    def has_a_result() -> bool:
        found = list(tmp_path.glob("*/settings.yaml"))
        status = read_status(RunFolder(found[0].parent)) if found else None
        return demo.poll() is not None or (status is not None and status.finished > 0)

    try:
        wait_until(has_a_result, "a result", 700)
    finally:
        demo.send_signal(signal.SIGINT)
    said, _ = demo.communicate(timeout=700)
    folder = find_run(tmp_path)
    assert (demo.returncode, said.strip()) == (130, str(folder.report))
    assert folder.report.is_file()
    status = read_status(folder)
    assert status is not None
    assert status.state == "stopped"
    assert told.read_text().split() == ["end"]
