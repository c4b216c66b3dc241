"""Make a run folder: frozen settings, provenance, search space, and the `latest` link."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import publish, publish_json, publish_text, read_fresh, read_json
from pipeline.problems.freezing import copy_problem, read_problem
from pipeline.problems.space import build_space
from pipeline.run.folder import LATEST, RunFolder, find_run
from pipeline.run.history import read_history
from pipeline.run.identity import make_identity
from pipeline.run.json_lines import JsonLinesWriter
from pipeline.run.provenance import provenance
from pipeline.settings import Settings, changed, dump_settings, load_settings


def create_run(settings: Settings, results: Path) -> RunFolder:
    """A new folder under `results`, named by the settings' name and the time, ready for a master.

    The data folder is made absolute: workers on other hosts start in other folders.

    Raises:
        RunError: `results` cannot be written, or there is no such run to start from.
        SettingsError: the problem cannot be used; see `pipeline.problems.freezing.read_problem`.
    """
    start_from = settings.search.start_from
    further = settings.search.objectives[1:]
    earlier = read_history(find_run(results, start_from)).as_earlier(further) if start_from else []
    settings = read_problem(changed(settings, _absolute(settings)))
    folder = RunFolder(_make_folder(results.resolve(), settings.name))
    try:
        _fill(folder, settings, earlier)
    except BaseException:  # Ctrl-C, a full disk: half a run is of no use to anybody
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    point_latest(folder)
    return folder


def _fill(folder: RunFolder, settings: Settings, earlier: list[list[Any]]) -> None:
    with publish(folder.configspace) as temporary:
        build_space(settings).to_json(temporary)
    settings, origins = copy_problem(settings, folder.path)
    publish_json(folder.provenance, {**provenance(), "problem": origins})
    make_identity(folder)
    if earlier:
        with JsonLinesWriter(folder.earlier) as lines:
            lines.append(earlier)
    # Last: a folder with settings is a run (`find_run`), and this one is complete only now.
    publish_text(folder.settings, dump_settings(settings))


def _absolute(settings: Settings) -> dict[str, Path]:
    """Where data is, from wherever a worker starts."""
    source = settings.data.source
    return {"data.root": settings.data.root.resolve()} | ({} if source is None else {"data.source": source.resolve()})


def read_settings(folder: RunFolder) -> Settings:
    """The frozen settings of a run.

    Raises:
        SettingsError: they are damaged, or from a version whose settings differ; the text names the field.
    """
    # A node may not see yet what the login node wrote, and a run that is extended has its settings replaced.
    with suppress(OSError):
        read_fresh(folder.settings, Path.read_bytes)
    return load_settings(folder.settings)


def problem_origins(folder: RunFolder) -> list[dict[str, Any]]:
    """Where the problem's files in a run folder were copied from; none where the problem is the paper's."""
    try:
        return list(read_json(folder.provenance).get("problem") or [])
    except (OSError, ValueError, AttributeError):
        return []


def extend_run(folder: RunFolder, iterations: int) -> Settings:
    """Let a run go on to `iterations` brackets in all; the settings before are kept beside the new ones.

    Raises:
        RunError: fewer brackets than before.
    """
    settings = read_settings(folder)
    before = settings.search.iterations
    if iterations < before:
        raise RunError(
            f"{folder.path} has {before} iterations already. Give more: "
            f"`tandem resume-search --iterations {before + 1}` or `make resume-search ITERATIONS={before + 1}`."
        )
    if iterations == before:
        return settings
    publish_text(
        folder.settings.with_suffix(f".{before}-iterations.yaml"),
        folder.settings.read_text(encoding="utf-8"),
        inside=folder.path,
    )
    settings = changed(settings, {"search.iterations": iterations})
    publish_text(folder.settings, dump_settings(settings))
    return settings


def point_latest(folder: RunFolder) -> None:
    """Let `results/latest` point to this run, in one step."""
    link = folder.path.parent / LATEST
    temporary = link.with_name(f".{LATEST}.{folder.run_id}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.path.name)
    temporary.replace(link)


def _make_folder(results: Path, name: str) -> Path:
    try:
        results.mkdir(parents=True, exist_ok=True)
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            try:
                # Whoever may write here could put another folder in the place of the jobs'.
                (results / f"{stem}{suffix}").mkdir(mode=0o755)
                return results / f"{stem}{suffix}"
            except FileExistsError:  # another search was submitted in the same second
                continue
    except OSError as error:
        raise RunError(
            f"Cannot make a run folder in {results}: {error.strerror}. RESULTS=... names another place."
        ) from None
    raise RunError(f"A hundred runs named {stem} in {results}: something submits in a loop.")
