"""Write a trained configuration into a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from pipeline.errors import RunError
from pipeline.files import is_there, publish_json, read_json
from pipeline.problems.description import Description, describe
from pipeline.records import ConfigId, Configuration, config_name, parse_config_name
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder
from pipeline.run.history import History, Result, devices_joined, read_history, read_journal
from pipeline.settings import Settings
from tandem_trial.checkpoints import read_progress, unpack

# Of `models/`, what the searched network consists of.
PARTS = ("architecture", "network", "recipe", "regularisers", "resize")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Chosen:
    """An evaluation whose training is still there.

    Attributes:
        checkpoint: its last one.
    """

    result: Result
    configuration: Configuration
    checkpoint: Path


def export(folder: RunFolder, target: Path, budget: float | None, config: str | None, say: Say) -> None:
    """Write a configuration that a run has trained, with its weights, into a new folder.

    Args:
        target: is made; must be empty if it is there.
        budget: which it was trained on; None: the largest one with a result.
        config: its name, `3-0-7`; None: the best one on that budget.

    Raises:
        RunError: there is no such evaluation, its checkpoint is gone, or the folder is not empty.
        DataError: the run's data set is not here: its pixels' means belong to the network.
    """
    settings, history = read_settings(folder), read_history(folder)
    problem = describe(settings, devices_joined(read_journal(folder)))
    chosen = choose(folder, history, budget, config)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} is there already, and not an empty folder; name another one.")
    target.mkdir(parents=True, exist_ok=True)
    about = _about(folder, problem, settings, chosen)
    if problem.is_built_in:
        _write_network(folder, settings, chosen, target, about, say)
    else:
        _write_own(chosen, target, about)
    value = problem.metric.text(about["metrics"][problem.metric.name])
    say(f"{target}: configuration {about['config_id']}, {problem.metric.title} {value} on {about['budget']:g}")


def choose(folder: RunFolder, history: History, budget: float | None, config: str | None) -> Chosen:
    """The evaluation that is meant: see `export`, also for what is raised."""
    meant = None if config is None else _parsed(config)
    finished = [r for r in history.results if r.loss is not None]
    fitting = [r for r in finished if budget in (None, r.budget) and meant in (None, r.config_id)]
    if not fitting:
        what = "any configuration" if config is None else f"configuration {config}"
        where = "" if budget is None else f" on budget {budget:g}"
        there = ", ".join(f"{b:g}" for b in sorted({r.budget for r in finished})) or "no budget yet"
        raise RunError(f"Run {folder.run_id} has no result of {what}{where}; it has results on {there}.")
    largest = max(r.budget for r in fitting)
    best = min((r for r in fitting if r.budget == largest), key=lambda r: (r.loss, r.config_id))
    configuration = next(d.configuration for d in history.draws if d.config_id == best.config_id)
    return Chosen(best, configuration, _checkpoint(folder, best))


def _parsed(config: str) -> ConfigId:
    try:
        return parse_config_name(config)
    except ValueError:
        raise RunError(f"--config {config}: a configuration is named by three numbers, such as 3-0-7") from None


def _checkpoint(folder: RunFolder, result: Result) -> Path:
    """Where the weights of an evaluation are: as its checkpoint, or kept as its budget's incumbent or of its front."""
    own = folder.checkpoint(result.config_id, result.budget, int(result.info.get("attempt") or 1))
    if own.is_file():
        return own
    for kept in (folder.kept_weights(result.budget, result.config_id), folder.kept_weights(result.budget)):
        if kept.is_file() and _kept_of(kept) == config_name(result.config_id):
            return kept
    raise RunError(
        f"Configuration {config_name(result.config_id)} has no checkpoint on budget {result.budget:g} (any more): "
        f"a run keeps the weights of each budget's best one and, of several objectives, of the front on the largest "
        f"budget; an objective that saves nothing leaves none."
    )


def _kept_of(kept: Path) -> str:
    try:
        return str(json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))["config_id"])
    except (OSError, ValueError, KeyError):
        return ""


def _about(folder: RunFolder, problem: Description, settings: Settings, chosen: Chosen) -> dict[str, Any]:
    result = chosen.result
    assert result.loss is not None
    return {
        "run": folder.run_id,
        "problem": problem.name,
        "config_id": config_name(result.config_id),
        "budget": result.budget,
        "budget_unit": settings.search.budget_unit,
        "metrics": {**result.info.get("metrics", {}), problem.metric.name: problem.metric.of_loss(result.loss)},
        "configuration": dict(chosen.configuration),
    }


# A problem of the user's own -----------------------------------------------------------------------------------------
def _write_own(chosen: Chosen, target: Path, about: dict[str, Any]) -> None:
    """The checkpoint as the objective wrote it, and the configuration."""
    try:
        progress = read_progress(chosen.checkpoint)
        unpack(chosen.checkpoint, progress, target / "checkpoint")
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"The checkpoint {chosen.checkpoint} cannot be read: {error}") from None
    how_far = {name: getattr(progress, name) for name in ("seed", "training_s", "epochs", "steps")}
    publish_json(target / "about.json", {**about, **how_far})


# The searched network ------------------------------------------------------------------------------------------------
def _write_network(
    folder: RunFolder, settings: Settings, chosen: Chosen, target: Path, about: dict[str, Any], say: Say
) -> None:
    """Weights, the network's code, and what turns a picture into its input."""
    import torch

    from models.registry import build_model
    from pipeline.training.checkpoint import check_seal
    from pipeline.training.data import load_data

    data = load_data(settings.data, torch.device("cpu"))
    shape, count, recipe = data.info.image_shape, data.info.classes, settings.training.recipe
    network = build_model(chosen.configuration, shape, count, recipe).eval()
    try:
        check_seal(chosen.checkpoint)
        weights = torch.load(chosen.checkpoint, map_location="cpu", weights_only=True)["model"]
        network.load_state_dict(weights)
    except Exception as error:  # torch.load raises whatever zip, pickle and zlib do for damaged files
        raise RunError(f"The checkpoint {chosen.checkpoint} cannot be read: {error}") from None
    torch.save(weights, target / "weights.pt")
    about |= {"recipe": recipe, "image_shape": list(shape), "classes": class_names(folder, count)}
    about |= {"mean": data.mean.tolist(), "deviation": data.deviation.tolist(), "fit": settings.data.fit}
    publish_json(target / "about.json", about)
    _copy_code(target)
    _write_program(network, shape, target / "network.pt2", say)


def class_names(folder: RunFolder, count: int) -> list[str]:
    """Classes by label: the names of their folders, where they are folders, and else numbers."""
    named = read_json(folder.images)["classes"] if is_there(folder.images) else range(count)
    return [str(name) for name in named]


def _copy_code(target: Path) -> None:
    """The code of the network as a package `network`, and what loads it."""
    source, package = Path(models.__file__).parent, target / "network"
    package.mkdir()
    (package / "__init__.py").write_text('"""The searched network, as Tandem has it."""\n', encoding="utf-8")
    for part in PARTS:
        code = (source / f"{part}.py").read_text(encoding="utf-8")
        (package / f"{part}.py").write_text(code.replace("from models.", "from network."), encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("predict.py"), target / "predict.py")


def _write_program(network: Any, image_shape: tuple[int, int, int], file: Path, say: Say) -> None:
    """The network by torch.export, for any number of images; without it the folder is complete as well."""
    import torch

    try:
        shapes = ({0: torch.export.Dim("images", min=1)},)
        program = torch.export.export(network, (torch.zeros(2, *image_shape),), dynamic_shapes=shapes)
        torch.export.save(program, file)
    except Exception as error:  # it raises anything where it meets what it does not know
        file.unlink(missing_ok=True)
        say(f"torch.export does not take the network ({type(error).__name__}: {error}): no {file.name} is written.")
