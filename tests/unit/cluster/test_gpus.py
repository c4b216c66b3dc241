import pytest

from pipeline.cluster.gpus import workers_per_device
from pipeline.settings import load_settings


def test_workers_that_share_a_gpu_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    of = ["training.device=auto", "slurm.gpus_per_worker=1"]
    assert [workers_per_device(load_settings("digits", [*of, f"workers.count={n}"])) for n in (0, 2, 5)] == [1, 1, 3]
    assert workers_per_device(load_settings("digits", ["training.device=cpu", "workers.count=5"])) == 1
