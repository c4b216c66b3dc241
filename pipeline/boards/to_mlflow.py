"""MLflow's tracking store in a folder: an experiment per run, and in it a run per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.boards.trainings import BoardEntry
from pipeline.errors import RunError

DATABASE = "mlflow.db"
# What MLflow takes in one call.
MOST_METRICS = 1000
_STATUS = {"finished": "FINISHED", "crashed": "FAILED", "running": "RUNNING"}


def open_board(name: str, folder: Path) -> Callable[[BoardEntry], None]:
    """What writes an entry into `folder`/mlflow.db, as a run of the experiment `name`.

    Raises:
        RunError: it has an experiment of this name already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.absolute() / DATABASE}")
    try:
        experiment = client.create_experiment(name, artifact_location=(folder.absolute() / "artifacts").as_uri())
    except MlflowException as error:
        raise RunError(
            f"{folder / DATABASE}: {error.message}. Name another folder, or delete that experiment."
        ) from None
    return partial(_write, client, experiment)


def _write(client: MlflowClient, experiment: str, entry: BoardEntry) -> None:
    run = client.create_run(experiment, start_time=round(1000 * entry.began), run_name=entry.name).info.run_id
    parameters = [Param(name, str(value)) for name, value in entry.configuration.items()]
    tags = [RunTag(name, str(value)) for name, value in entry.facts.items()]
    client.log_batch(run, params=parameters, tags=tags)
    metrics = list(_metrics(entry))
    for first in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[first : first + MOST_METRICS])
    client.set_terminated(run, _STATUS.get(entry.status, "KILLED"), end_time=round(1000 * entry.ended))


def _metrics(entry: BoardEntry) -> Iterator[Metric]:
    for point in entry.curve:
        for name, value in point.values.items():
            yield Metric(name, value, round(1000 * point.time), point.step)
    last = entry.curve[-1] if entry.curve else None
    for name, value in entry.metrics.items():
        yield Metric(
            f"final.{name}", value, round(1000 * (last.time if last else entry.began)), last.step if last else 0
        )
