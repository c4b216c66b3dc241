"""What `make dist` builds, in an environment of its own and outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.run.folder import find_run
from pipeline.settings import preset_names

ROOT = Path(__file__).parents[2]
SMALL = [
    "search.method=random", "search.iterations=1", "search.budget_unit=batches", "search.max_budget=4",
    "workers.count=1", "workers.where=local", "training.threads=1",
]  # fmt: skip


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=cwd, check=False, timeout=700,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, over the packages of this one."""
    folder = tmp_path_factory.mktemp("distribution")
    # A copy: building leaves build/ behind, and takes what an earlier build has left.
    files = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ".", cwd=folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    assert f"-{pipeline.__version__}-" in wheel.name
    assert [p.name for p in (folder / "dist").glob("*.tar.gz")] == [f"tandem_nas-{pipeline.__version__}.tar.gz"]
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = (folder / "environment" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(str(Path(np.__file__).parents[1]))
    return folder / "environment"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_runs_a_demo_with_its_report_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    tandem = environment / "bin" / "tandem"
    overrides = [part for override in SMALL for part in ("--set", override)]
    said = run(tandem, "demo", *overrides, cwd=tmp_path)
    folder = find_run(tmp_path / "results")
    assert f"Report: {folder.report}" in said
    report = folder.report.read_text(encoding="utf-8")
    assert "<style>" in report
    assert "<script>" in report
    where = run(environment / "bin" / "python", "-c", "import pipeline; print(pipeline.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))


@pytest.mark.slow
def test_the_wheel_brings_presets_templates_and_the_scripts_for_slurm(environment: Path, tmp_path: Path) -> None:
    tandem = environment / "bin" / "tandem"
    assert run(tandem, "--version", cwd=tmp_path) == f"tandem {pipeline.__version__}\n"
    listed = run(tandem, "presets", cwd=tmp_path).splitlines()
    assert set(preset_names()) <= set(listed)
    run(tandem, "init", "mine", cwd=tmp_path)
    assert (tmp_path / "mine.py").is_file()
    run(tandem, "scripts", cwd=tmp_path)
    for name in ("worker.sh", "master.sh", "environment.sh"):
        assert (tmp_path / "slurm" / name).read_bytes() == (ROOT / "slurm" / name).read_bytes()
    # The script finds this environment's Python, and the worker says that there is no run yet.
    (tmp_path / "slurm" / "site.sh").write_text((tmp_path / "slurm" / "site.sh").read_text() + "export SITE=seen\n")
    assert "site.sh" not in run(tandem, "scripts", cwd=tmp_path), "the site's own is kept"
    done = subprocess.run(["bash", "slurm/worker.sh"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert f"with {environment / 'bin' / 'python'}" in done.stdout
    assert "No run in results yet" in done.stderr
