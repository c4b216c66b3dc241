"""Other programs read a run: hpbandster's own loader, and whoever opens it the way DeepCAVE does."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic_run import write_synthetic_run
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_stock_hpbandster_reads_the_same_losses_as_the_collection(tmp_path: Path) -> None:
    from hpbandster.core.result import logged_results_to_HBS_result

    folder = write_synthetic_run(tmp_path / "run", load_settings("digits", ["search.iterations=4"]), max_rows=3)
    results = load_results(collect(folder))
    stock = logged_results_to_HBS_result(str(folder.path))
    losses = {(run.config_id, run.budget): run.loss for run in stock.get_all_runs()}
    ours = results.evaluations
    assert len(losses) == len(ours)
    for row in ours.itertuples():
        loss = losses[(row.iteration, row.stage, row.index), row.budget]
        assert row.loss == loss or (loss is None and np.isnan(row.loss))  # type: ignore[arg-type]


def test_a_run_folder_has_what_deepcave_asks_for(tmp_path: Path) -> None:
    from ConfigSpace import Configuration, ConfigurationSpace

    folder = write_synthetic_run(tmp_path / "run", load_settings("digits", ["search.iterations=2"]), max_rows=3)
    space = ConfigurationSpace.from_json(folder.configspace)
    for line in folder.configs.read_text().splitlines():
        Configuration(space, values=json.loads(line)[1]).check_valid_configuration()
    for line in folder.results.read_text().splitlines():
        _, _, times, result, _ = json.loads(line)
        assert set(times) == {"submitted", "started", "finished"}
        assert result is None or (result["loss"] >= 0 and "state" not in result["info"])
