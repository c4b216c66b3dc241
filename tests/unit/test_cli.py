"""What a person types, and what a program gets back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.settings.documentation import setting_names
from tests.earlier_run import unpack_earlier_run

ROOT = Path(__file__).parents[2]


def tandem(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


def test_the_version_is_said_once_for_all() -> None:
    assert tandem("--version").stdout == f"tandem {pipeline.__version__}\n"
    assert f"\nversion: {pipeline.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## [{pipeline.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_runs_and_configurations_are_json_for_programs(tmp_path: Path) -> None:
    unpack_earlier_run(tmp_path)
    (run,) = json.loads(tandem("list", "--results", str(tmp_path), "--json").stdout)
    assert (run["ended"], run["planned"]) == (1, 20), "as the status says that the master published last"
    status = json.loads(tandem("status", run["run_id"], "--results", str(tmp_path), "--json").stdout)
    assert (status["run_id"], status["finished"]) == (run["run_id"], 1)
    shown = json.loads(tandem("show", "0-0-0", "--run", str(tmp_path / run["run_id"]), "--json").stdout)
    assert shown["config_id"] == [0, 0, 0]


@pytest.mark.slow
def test_errors_are_one_line_and_status_2(tmp_path: Path) -> None:
    for arguments in (["show", "0-0-0", "--results", str(tmp_path)], ["plan", "--set", "search.eta=1"]):
        done = tandem(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("tandem: ")
        assert "Traceback" not in done.stderr
    assert tandem("no-such-command").returncode == 2


@pytest.mark.parametrize(
    ("words", "offered"),
    [("tandem plan --preset dig", "digits"), ("tandem plan --set search.et", "search.eta="), ("tandem ver", "verify")],
)
def test_presets_settings_and_commands_complete(words: str, offered: str) -> None:
    done = tandem(_TANDEM_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
    assert offered in done.stdout.split()


def test_zsh_and_fish_complete_too() -> None:
    asked = "tandem plan --preset dig"
    zsh = tandem(_TANDEM_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=asked)
    assert '"digits"' in zsh.stdout
    fish = tandem(
        _TANDEM_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS=asked, _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_WORD_TO_COMPLETE="dig",
    )  # fmt: skip
    assert "digits" in fish.stdout.split()


def test_runs_complete_by_name(tmp_path: Path) -> None:
    for name in ("digits-1", "digits-2", "cifar10-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.yaml").touch()
    words = f"tandem status --results {tmp_path} dig"
    done = tandem(_TANDEM_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert done.stdout.split() == ["digits-1", "digits-2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--set", "workers.count=0"], "workers.count: a demo without workers never ends"),
        (["submit-search", "--dry-run", "--set", "space.lr=[0.1, 1]"], "space.lr: unknown hyperparameter"),
        (["submit-search", "--dry-run", "--set", "search.try_first=[{lr: 1}]"], "lr: unknown hyperparameter"),
    ],
)
def test_what_no_search_can_begin_with_is_called_by_its_name(arguments: list[str], said: str) -> None:
    done = tandem(*arguments)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_every_setting_has_a_name_that_can_be_set() -> None:
    names = setting_names()
    assert {"name", "search.eta", "slurm.partition", "data.root"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("typed", ["PRSET=cifar10", "LR=0.1"])
def test_make_refuses_variables_that_it_does_not_know(typed: str) -> None:
    done = subprocess.run(["make", "-n", "submit-search", typed], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert f"unknown: {typed.partition('=')[0]}" in done.stderr


def test_make_passes_on_what_it_knows() -> None:
    asked = ["PRESET=cifar10", "WORKERS=3", "SET=search.eta=4", "RESULTS=elsewhere"]
    done = subprocess.run(["make", "-n", "submit-search", *asked], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "--preset 'cifar10' --set 'workers.count=3' --set 'search.eta=4' --results 'elsewhere'" in " ".join(
        done.stdout.split()
    )


def test_make_retrains_the_configuration_that_was_asked_for() -> None:
    command = ["make", "-n", "retrain-incumbent", "RUN=first", "CONFIG=1-0-3", "SEEDS=5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "retrain-incumbent --config '1-0-3' --seeds 5 'first'" in " ".join(done.stdout.split())


def test_make_installs_the_build_of_pytorch_that_was_asked_for(tmp_path: Path) -> None:
    def installs(*asked: str) -> str:
        command = ["make", "-n", "install", f"VENV={tmp_path / 'environment'}", *asked]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout

    assert "torch==" not in installs()
    assert "-e '.[dev]'" in installs()
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:])
    small = installs("TORCH=cpu", "EXTRAS=")
    assert f"torch=={pinned['torch']}+cpu torchvision=={pinned['torchvision']}+cpu -e '.'" in small
    assert "torch==2.13.0+cpu -e" in installs("TORCH=2.13.0+cpu")
