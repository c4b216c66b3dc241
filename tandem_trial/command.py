"""An objective that is a program of any language.

The program gets the configuration in its arguments (`{learning_rate}`, `{budget}`, ...), in the environment and in a
JSON file, adds a line of JSON per row to a file, keeps its checkpoint in a folder, and is asked to end by TERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem_trial.problem import Metric, Problem
from tandem_trial.trial import SPENT, Trial, TrialError

POLL_S = 0.05
# How long a program that ended by a signal has to wait for the worker to say that it was to end.
SIGNALLED_S = 2.0
TAIL_BYTES = 4096
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
SAVED = "checkpoint"  # a row with this name set says that the checkpoint's folder is whole now
# What a place in the command may name besides hyperparameters.
GIVEN = ("budget", "remaining", "seed", "device", "gpus", "folder", "checkpoint", "metrics", "configuration", "data")
_COUNTED = {"epoch": "epochs", "step": "steps"}


def command_problem(source: Mapping[str, Any]) -> Problem:
    """The problem whose objective is the command of `source`."""
    runner = CommandRunner(source["command"], float(source["stop_grace_s"]), source["hyperparameters"], source["path"])
    return Problem(
        objective=runner,
        space=source.get("space", {}),
        metric=Metric(**source["metric"]),
        metrics=[Metric(**each) for each in source.get("metrics", ())],
        forbidden=source.get("forbidden", ()),
    )


def unknown_places(command: Sequence[str], names: Sequence[str]) -> list[str]:
    """Places in a command that nothing will fill. Braces around anything but a name are left alone."""
    places = [place for part in command for place in _PLACE.findall(part)]
    return [place for place in places if place not in (*names, *GIVEN)]


class CommandRunner:
    """Runs the program for one trial at a time.

    Args:
        command: program and arguments; `{name}` stands for a hyperparameter or one of `given`.
        grace_s: from TERM to KILL, and from the end of a budget in steps or epochs to TERM.
        path: folders that a Python program finds its neighbours and this package in.
        names: of the hyperparameters, also of those that a condition may switch off.
    """

    def __init__(self, command: Sequence[str], grace_s: float, names: Sequence[str], path: Sequence[str]) -> None:
        self._command = list(command)
        self._grace_s = grace_s
        inherited = os.environ.get("PYTHONPATH")
        self._path = os.pathsep.join([*path, *([inherited] if inherited else [])])
        self._names = list(names)

    def __call__(self, trial: Trial) -> None:
        """Run to the program's end, or until the trial shall stop.

        Raises:
            ProgramError: it ended with an error.
            TrialError: what it reported is no row.
            OSError: it cannot be started.
        """
        run = _Run(trial)
        arguments = filled(self._command, run.given, self._names)
        environment = {**os.environ, **run.environment, "PYTHONPATH": self._path}
        trial.should_stop()  # the budget clock starts with the program
        process = subprocess.Popen(
            arguments, cwd=trial.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output = _ProgramOutput(process)
        try:
            was_asked = self._watch(process, trial, run)
        finally:
            process.kill()  # it has ended, unless what it reported is an error
            process.wait()
        run.take_rows()
        code = process.returncode
        if code < 0 and not was_asked:  # Slurm signals every process of a job; the worker knows of it in a moment
            deadline = time.monotonic() + SIGNALLED_S
            while not was_asked and time.monotonic() < deadline:
                was_asked = trial.check_stop()
                time.sleep(POLL_S)
        if code and not was_asked:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
            said = output.last_words()
            last = f"; it last said: {said}" if said else ""
            raise ProgramError(f"the program {how}{last} (`{shlex.join(arguments)}`)")
        run.save()

    def _watch(self, process: subprocess.Popen[bytes], trial: Trial, run: _Run) -> bool:
        """Wait for the program's end; whether it was asked to end."""
        next_act, acts = 0.0, [process.terminate, process.kill]
        while process.poll() is None:
            run.take_rows()
            if trial.check_stop() and acts and time.monotonic() >= next_act:
                # A program that counts steps was told how many: it is about to end by itself.
                is_ending = next_act == 0.0 and trial.stop_reason == SPENT and trial.budget_unit != "seconds"
                if not is_ending:
                    acts.pop(0)()
                next_act = time.monotonic() + self._grace_s
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        return len(acts) < 2


class ProgramError(Exception):
    """The program ended with an error."""


class _ProgramOutput:
    """Passes on what a program prints, and keeps its last words."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self._tail = b""
        self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._stream:
            while content := os.read(self._stream.fileno(), 1 << 16):
                self._tail = (self._tail + content)[-TAIL_BYTES:]
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()

    def last_words(self) -> str:
        """The last line that is not empty."""
        self._thread.join(SIGNALLED_S)  # something that the program has started may hold its output open
        lines = self._tail.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


class _Run:
    """What one run of the program is given, and what it reports."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._metrics = trial.folder / "metrics.jsonl"
        self._checkpoint = trial.folder / "checkpoint"
        self._read = 0
        self._is_whole = False  # a row has said so since the last checkpoint
        shutil.rmtree(self._checkpoint, ignore_errors=True)
        self._metrics.unlink(missing_ok=True)
        loaded = trial.load()
        if loaded is None:
            self._checkpoint.mkdir()
        else:
            loaded.replace(self._checkpoint)
        configuration = trial.folder / "configuration.json"
        self.given: dict[str, Any] = {
            **trial.configuration,
            "budget": _number(trial.budget),
            "remaining": _number(trial.remaining),
            "seed": trial.seed,
            "device": trial.device,
            "gpus": trial.gpus,
            "folder": trial.folder,
            "checkpoint": self._checkpoint,
            "metrics": self._metrics,
            "configuration": configuration,
            "data": trial.data or "",
        }
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in self.given.items()}
        configuration.write_text(json.dumps({**plain, "hyperparameters": trial.configuration}), encoding="utf-8")
        own = {"budget_unit": trial.budget_unit, "attempt": trial.attempt, "spent": trial.spent}
        self.environment = {f"TANDEM_{name.upper()}": _text(value) for name, value in {**self.given, **own}.items()}

    def take_rows(self) -> None:
        """Report the lines that were added since the last call; a torn last line waits for its end."""
        try:
            with self._metrics.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.strip():
                self._take(line)
        if self._is_whole and self._trial.should_save():
            self.save()

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise TrialError(f"metrics.jsonl holds {line[:80]!r}, which is no line of JSON such as {{'loss': 0.5}}")
        trial = self._trial
        for name, counter in _COUNTED.items():
            if name in row and name not in trial.metric_names:
                setattr(trial, counter, type(getattr(trial, counter))(row.pop(name)))
        self._is_whole |= bool(row.pop(SAVED, False))
        known = {name: value for name, value in row.items() if name in trial.metric_names}
        if known:
            trial.report(**known)
        elif row:
            trial.note(f"a row has none of the metrics {', '.join(trial.metric_names)}; it has {', '.join(row)}")

    def save(self) -> None:
        """Make a checkpoint of what the program has in its folder, if anything."""
        self._is_whole = False
        if any(self._checkpoint.iterdir()):
            with self._trial.save() as path:
                shutil.copytree(self._checkpoint, path, copy_function=_copy_if_there)


def _copy_if_there(source: str, target: str) -> str:
    """Copy a file, unless the program, which goes on, has just renamed or removed it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)
    return target


def filled(command: Sequence[str], given: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A command with its places filled.

    What names a hyperparameter that a condition has switched off is left out where it can be told from the others: an
    option with its value (`--momentum {momentum}`, `--momentum={momentum}`, `momentum={momentum}`). Elsewhere it is an
    empty text, so that the arguments after it keep their places.

    Args:
        given: value by place.
        names: of the hyperparameters.
    """
    absent = set(names) - set(given)
    arguments: list[str] = []
    for before, part in zip(("", *command), command, strict=False):
        if absent.isdisjoint(_PLACE.findall(part)):
            arguments.append(_filled(part, given))
        elif before.startswith("-") and "=" not in before and not _PLACE.search(before):
            arguments.pop()
        elif "=" not in part.partition("{")[0]:
            arguments.append(_filled(part, {**dict.fromkeys(absent, ""), **given}))
    return arguments


def _filled(part: str, given: Mapping[str, Any]) -> str:
    """An argument with its places filled; braces around anything else stay, as JSON has them."""
    return _PLACE.sub(lambda place: _text(given[place[1]]) if place[1] in given else place[0], part)


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value
