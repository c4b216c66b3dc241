"""Read a problem of the user's own before its run begins, and freeze it into the run folder.

User code runs in a process of its own, under the interpreter that the user names; here only its answer is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tandem_trial
from pipeline.commits import commit_of
from pipeline.errors import DataError, SettingsError
from pipeline.problems.names import check_names
from pipeline.problems.space import narrowed, serialized_space
from pipeline.settings import FrozenProblem, MetricSettings, Settings, changed
from tandem_trial.command import unknown_places

CHILD = Path(tandem_trial.__file__).with_name("child.py")
# Importing a problem may import a large framework from a cold file system.
READ_S = 300.0
# What a command's argument must look like to be copied: code, or a program.
_CODE = {".py", ".sh", ".bash", ".r", ".jl", ".pl", ".lua", ".rb", ".js", ".m"}
MAX_COPIED_BYTES = 64 * 2**20


def read_problem(settings: Settings) -> Settings:
    """The settings with what their problem says of itself; as they are where it is the paper's, or was read before.

    Raises:
        SettingsError: the problem's file does not import, holds no problem, or its space is wrong: one line.
    """
    problem = settings.problem
    if problem.is_built_in or problem.frozen is not None:
        return settings
    try:
        frozen = _of_command(settings) if problem.command else _of_python(settings)
    except ValueError as error:
        raise SettingsError(f"problem: {' '.join(str(error).split())}") from None
    # With what the settings narrow: whoever submits hears of it.
    space = narrowed(frozen.space, settings.space, settings.seed)
    metrics = [metric.name for metric in (frozen.metric, *frozen.metrics)]
    check_names([h["name"] for h in frozen.space["hyperparameters"]], metrics, bool(problem.command))
    if problem.command:
        _check_places(problem.command, list(space))
    return changed(settings, {"problem.frozen": frozen})


def _of_command(settings: Settings) -> FrozenProblem:
    problem = settings.problem
    assert problem.metric is not None
    command = [str(Path(part).expanduser()) if part.startswith("~/") else part for part in problem.command]
    if problem.python is not None and command[0] in ("python", "python3"):
        command[0] = interpreter(settings)
    # Links stay what they are: an interpreter knows by its path which environment is meant.
    command = [str(Path(part).absolute()) if Path(part).is_file() else part for part in command]
    named = [part for part in command if _is_code(Path(part))]
    return FrozenProblem(
        name=Path(named[0] if named else command[0]).stem,
        path=tuple(dict.fromkeys(str(Path(part).resolve().parent) for part in named)),
        command=tuple(command),
        metric=problem.metric,
        metrics=problem.metrics,
        space=serialized_space(problem.space, problem.forbidden),
    )


def _is_code(path: Path) -> bool:
    """Whether a part of a command is the user's own code. A program in a folder `bin` is one that was installed: an
    interpreter, say, which works nowhere else.
    """
    if not path.is_file() or path.stat().st_size > MAX_COPIED_BYTES:
        return False
    is_program = "/" in str(path) and os.access(path, os.X_OK) and path.parent.name != "bin"
    return path.suffix.lower() in _CODE or is_program


def _check_places(command: Sequence[str], names: Sequence[str]) -> None:
    for name in unknown_places(command, names):
        known = ", ".join(names)
        raise SettingsError(f"problem.command: {{{name}}} is neither a hyperparameter ({known}) nor one of those that "
                            f"docs/own-problems.md lists")  # fmt: skip


def _of_python(settings: Settings) -> FrozenProblem:
    use, _, attribute = settings.problem.use.partition(":")
    source: dict[str, Any] = {"name": attribute, "path": [str(Path.cwd())]}
    if use.endswith(".py") or "/" in use:
        file = Path(use).expanduser().resolve()
        if not file.is_file():
            raise SettingsError(f"problem: there is no file {use} (looked for {file})")
        source |= {"file": str(file), "path": [str(file.parent)]}
    else:
        source["module"] = use
    answer = run_child(settings, "describe", source)["problem"]
    return FrozenProblem(
        name=answer["name"] or Path(use).stem,
        file=str(source.get("file", "")),
        module=source.get("module", ""),
        attribute=attribute,
        path=tuple(source["path"]),
        metric=MetricSettings(**answer["metric"]),
        metrics=tuple(MetricSettings(**metric) for metric in answer["metrics"]),
        space=serialized_space(answer["space"], answer["forbidden"]),
        prepares_data=answer["prepares_data"],
    )


def run_child(settings: Settings, task: str, source: Mapping[str, Any], *arguments: str) -> dict[str, Any]:
    """Let a child do one thing with the problem, and return what it says.

    Raises:
        SettingsError: it cannot be started, it died, or the problem raised an error.
    """
    problem = settings.problem
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [child_interpreter(settings), str(CHILD), task, json.dumps(source), *arguments, str(answer)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=READ_S, check=False
            )
        except OSError as error:
            raise SettingsError(f"problem.python: {command[0]} cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise SettingsError(f"problem: {problem.use} had not been imported after {READ_S:.0f} s") from None
        try:
            said = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise SettingsError(
                f"problem: {problem.use} ended its process (status {done.returncode}): {last}"
            ) from None
    if "error" in said:
        raise SettingsError(f"problem: {problem.use} cannot be used: {said['error']}")
    return dict(said)


def interpreter(settings: Settings) -> str:
    """The Python that a problem of the user's own names; default: Tandem's."""
    named = settings.problem.python
    return sys.executable if named is None else str(Path(named).expanduser())


def child_interpreter(settings: Settings) -> str:
    """The Python that the child runs in; what starts a command is Tandem's own."""
    return sys.executable if settings.problem.command else interpreter(settings)


def child_source(settings: Settings, folder: Path | None = None) -> dict[str, Any]:
    """What a child loads: the copy in the run folder, once there is one."""
    frozen = settings.problem.frozen
    assert frozen is not None

    def inside(file: str) -> str:
        return file if folder is None else str(folder / file)

    if frozen.command:
        return {
            "command": [inside(part) if _is_copy(part) else part for part in frozen.command],
            "path": [*frozen.path, inside(COPIES)],
            "hyperparameters": [h["name"] for h in frozen.space["hyperparameters"]],
            "metric": frozen.metric.model_dump(),
            "metrics": [metric.model_dump() for metric in frozen.metrics],
            "stop_grace_s": settings.problem.stop_grace_s,
        }
    file = {"file": inside(frozen.file)} if frozen.file else {"module": frozen.module}
    return {**file, "name": frozen.attribute, "path": list(frozen.path)}


def _is_copy(part: str) -> bool:
    return part.startswith(f"{COPIES}/")


# Data --------------------------------------------------------------------------------------------------------------
def data_folder(settings: Settings) -> Path | None:
    """Where the problem's own data is; None: it prepares none."""
    frozen = settings.problem.frozen
    return settings.data.root / frozen.name if frozen is not None and frozen.prepares_data else None


def prepare_own_data(settings: Settings) -> Path | None:
    """Let a problem of the user's own prepare its data, once: a second call finds the mark of the first.

    Raises:
        DataError: it failed; the text has its reason.
    """
    folder = data_folder(settings)
    if folder is None or (folder / DONE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run_child(settings, "prepare", child_source(settings), str(folder.resolve()))
    except SettingsError as error:
        raise DataError(f"The data could not be prepared in {folder}: {error}") from None
    (folder / DONE).touch()
    return folder


DONE = ".prepared"
COPIES = "problem"


# Copies ------------------------------------------------------------------------------------------------------------
def copy_problem(settings: Settings, folder: Path) -> tuple[Settings, list[dict[str, Any]]]:
    """Copy the problem's files into a run folder.

    Returns:
        The settings that name the copies, and where each came from (path, checksum, commit, whether it was changed).
    """
    frozen = settings.problem.frozen
    if frozen is None:
        return settings, []
    origins: list[dict[str, Any]] = []

    def copied(file: str) -> str:
        (folder / COPIES).mkdir(exist_ok=True)
        name = f"{COPIES}/{Path(file).name}"
        shutil.copy2(file, folder / name)  # with its mode: a program stays one
        commit, is_dirty = commit_of(Path(file).parent, Path(file))
        origins.append({"file": file, "copy": name, "sha256": _sha256(Path(file)), "commit": commit, "dirty": is_dirty})
        return name

    if frozen.file:
        frozen = frozen.model_copy(update={"file": copied(frozen.file)})
    if frozen.command:
        command = tuple(copied(part) if _is_code(Path(part)) else part for part in frozen.command)
        frozen = frozen.model_copy(update={"command": command})
        # For a program in Python, alone: what lies beside the package here is none of the program's business.
        package = Path(tandem_trial.__file__).parent
        shutil.copytree(package, folder / COPIES / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return changed(settings, {"problem.frozen": frozen}), origins


def changed_since(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each original that is not any more what was copied."""
    lines = []
    for origin in origins:
        file = Path(origin["file"])
        if not file.is_file():
            lines.append(f"{file} is gone. The run goes on with its copy {origin['copy']}.")
        elif _sha256(file) != origin["sha256"]:
            lines.append(f"{file} has changed since the run began. It goes on with its copy {origin['copy']}.")
    return lines


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def command_line(settings: Settings) -> str:
    """A command as a person types it; empty: the problem is none."""
    frozen = settings.problem.frozen
    return shlex.join(frozen.command) if frozen is not None else ""
