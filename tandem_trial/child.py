"""The process that runs an objective: it lives on from evaluation to evaluation, and may die of any of them.

    python .../tandem_trial/child.py describe FILE      say what a problem is, as JSON
    python .../tandem_trial/child.py prepare FILE FOLDER   let it prepare its data
    python .../tandem_trial/child.py work FILE IN OUT     evaluate what comes over the pipe IN, answer over OUT

FILE is a JSON file or text with `source`: path/to/file.py[:name], module[:attribute], or a command.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def _take_in_this_package() -> None:
    """Make `tandem_trial` importable, and nothing that happens to lie beside it: not Tandem's own packages."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    if "tandem_trial" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "tandem_trial", here / "__init__.py", submodule_search_locations=[str(here)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["tandem_trial"] = module
        spec.loader.exec_module(module)


if __name__ == "__main__":
    _take_in_this_package()

from tandem_trial.problem import Metric, Problem  # noqa: E402
from tandem_trial.trial import SPENT, NotFiniteError, Trial, TrialError, resident_mb  # noqa: E402
from tandem_trial.wire import Wire  # noqa: E402

# What CUDA's runtime and a CPU's allocator say, which raise plain RuntimeErrors.
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")
_PR_SET_PDEATHSIG = 1


def load_problem(source: Mapping[str, Any]) -> Problem:
    """The problem that a source names.

    Args:
        source: `file` (a Python file) or `module`; `name` of the Problem in it ("" for the only one, or `problem`);
            `path`: folders to import from, before all others; or `command` and what `Problem` takes.

    Raises:
        ImportError, or whatever the file raises; ValueError: it holds no problem.
    """
    if source.get("command"):
        from tandem_trial.command import command_problem

        return command_problem(source)
    sys.path[:0] = [str(folder) for folder in source.get("path", ()) if folder not in sys.path]
    module = _module(source)
    name = source.get("name") or ""
    found = {key: value for key, value in vars(module).items() if isinstance(value, Problem)}
    if not name:
        name = "problem" if "problem" in found or len(found) != 1 else next(iter(found))
    if name not in found:
        there = ", ".join(found) or "none"
        raise ValueError(f"it has no tandem_trial.Problem called {name!r}; those it has: {there}")
    return found[name]


def _module(source: Mapping[str, Any]) -> ModuleType:
    if not source.get("file"):
        return importlib.import_module(source["module"])
    path = Path(source["file"])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickles and dataclasses look modules up by name
    spec.loader.exec_module(module)
    return module


def told(error: BaseException) -> str:
    """An error in one line, with the place in the user's code where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).resolve().parent)
    outside = [f for f in frames if not f.filename.startswith((here, "<frozen"))]
    where = f" ({Path(outside[-1].filename).name}:{outside[-1].lineno})" if outside else ""
    return " ".join(f"{type(error).__name__}: {error}{where}".split())[:1000]


class Child:
    """Evaluates what it is given until its worker is gone."""

    def __init__(self, problem: Problem, wire: Wire) -> None:
        self._problem = problem
        self._wire = wire

    def work(self) -> None:
        """Never returns: the process ends with its worker."""
        # What the problem has imported stays. Left out of the collections between evaluations: with PyTorch and others
        # loaded, each of them would take a tenth of a second.
        gc.collect()
        gc.freeze()
        self._wire.send(ready=True)
        while True:
            order = self._wire.next_order()
            outcome = self._evaluate(order)
            self._wire.send(end={**outcome, "resident_mb": resident_mb()})
            gc.collect()

    def _evaluate(self, order: Mapping[str, Any]) -> dict[str, Any]:
        trial = Trial(order, self._problem.by_name, self._wire)
        trial.folder.mkdir(parents=True, exist_ok=True)
        os.chdir(trial.folder)
        try:
            returned = self._problem.objective(trial)
            if returned is not None:
                trial.report(**self._as_metrics(returned))
            status = {"status": "finished" if trial.stop_reason in ("", SPENT) else "handed_back"}
        except BaseException as error:  # sys.exit() in an objective must not lose the evaluation
            status = failure(error)
            traceback.print_exception(type(error), error, error.__traceback__)
        try:
            return {**status, **trial.finish()}
        except TrialError as error:
            return {**status, "note": str(error)}

    def _as_metrics(self, returned: Any) -> Mapping[str, Any]:
        return returned if isinstance(returned, Mapping) else {next(iter(self._problem.by_name)): returned}


def failure(error: BaseException) -> dict[str, Any]:
    """Whose fault an error is: the configuration's (crashed) or the installation's (broken)."""
    text = told(error)
    if isinstance(error, NotFiniteError):
        return {"status": "crashed", "kind": "not_finite", "reason": str(error)}
    if isinstance(error, TrialError):
        return {"status": "crashed", "kind": "bad_result", "reason": text.partition(": ")[2]}
    is_out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_out_of_memory or any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return {"status": "crashed", "kind": "out_of_memory", "reason": text}
    if isinstance(error, (ImportError, OSError)):
        return {"status": "broken", "reason": text}
    return {"status": "crashed", "kind": "error", "reason": text}


def _die_with_the_worker() -> None:
    # Elsewhere than on Linux the end of the pipe says it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_signals_to_the_worker() -> None:
    # Slurm signals every process of a step; the worker says over the pipe what to do. A handler that does nothing,
    # rather than SIG_IGN: a program that the objective starts shall not inherit deafness.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)


def main(arguments: list[str]) -> int:
    """See the module."""
    task, source = arguments[0], json.loads(arguments[1])
    if task == "work":
        _die_with_the_worker()
        _leave_signals_to_the_worker()
        wire = Wire(int(arguments[2]), int(arguments[3]))
        try:
            problem = load_problem(source)
        except BaseException as error:
            traceback.print_exc()
            wire.send(broken=told(error))
            return 1
        Child(problem, wire).work()
    try:
        problem = load_problem(source)
        answer: dict[str, Any] = {"problem": problem.to_plain()}
        if task == "prepare" and problem.prepare_data is not None:
            problem.prepare_data(Path(arguments[2]))
        text = json.dumps(answer, default=_plain)
    except BaseException as error:
        traceback.print_exc()
        text = json.dumps({"error": told(error)})
    Path(arguments[-1]).write_text(text, encoding="utf-8")
    return 0


def _plain(value: Any) -> Any:
    """Scalars and arrays of numpy, as ConfigSpace has them, in plain types."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (Metric, Path)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a search space")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
