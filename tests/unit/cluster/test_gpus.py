import pytest

from pipeline.cluster.gpus import gpus_of_workers, workers_per_device
from pipeline.errors import SettingsError
from pipeline.settings import Settings, load_settings, validate_settings


def test_workers_that_share_a_gpu_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    of = ["training.device=auto", "slurm.gpus_per_worker=1"]
    assert [workers_per_device(load_settings("digits", [*of, f"workers.count={n}"])) for n in (0, 2, 5)] == [1, 1, 3]
    assert workers_per_device(load_settings("digits", ["training.device=cpu", "workers.count=5"])) == 1


def of_an_own_problem(gpus: int, workers: int) -> Settings:
    own = {"command": ["train"], "space": {"x": [0.0, 1.0]}, "metric": {"name": "loss"}}
    slurm = {"gpus_per_worker": gpus}
    return validate_settings({"problem": own, "slurm": slurm, "workers": {"count": workers}})


def test_local_workers_of_several_gpus_take_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    settings = of_an_own_problem(gpus=2, workers=3)
    assert gpus_of_workers(settings) == ["0,1", "2,3"]
    assert workers_per_device(settings) == 2
    assert gpus_of_workers(of_an_own_problem(gpus=1, workers=3)) == ["0", "1", "2", "3", "4"]
    assert gpus_of_workers(of_an_own_problem(gpus=8, workers=3)) == []


def test_the_built_in_training_is_refused_more_than_one_gpu() -> None:
    with pytest.raises(SettingsError, match="gpus_per_worker: 2; the built-in training uses one GPU"):
        load_settings("digits", ["slurm.gpus_per_worker=2"])
