import math
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Never

import pytest
import torch

from pipeline.errors import BrokenError, CrashedError
from pipeline.records import INFO_KEYS, NOTES_KEY, EpochRow, Evaluation, LowerRung, derive_seed
from pipeline.run.lower_rungs import LOWER_RUNGS_KEY
from pipeline.training.augment import network_input
from pipeline.training.latency import measure_latency
from pipeline.training.trainer import Trainer, seed_device
from tests.unit.training.support import Bench, KeptCurve, stop_after, without_clocks

pytestmark = pytest.mark.slow

IN_BATCHES = ("search.budget_unit=batches", "search.min_budget=9", "search.max_budget=27", "training.overhead_share=1")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def bench(root: Path, tmp_path: Path) -> Bench:
    return Bench(root, tmp_path / "run", *IN_BATCHES)


def weights(bench: Bench, evaluation: Evaluation) -> OrderedDict:
    path = bench.folder.checkpoint(evaluation.config_id, evaluation.budget, evaluation.attempt)
    return torch.load(path, weights_only=True)["model"]


def assert_same_weights(one: OrderedDict, other: OrderedDict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_curve_has_a_row_per_epoch_and_one_for_the_partial_epoch_at_the_end(bench: Bench) -> None:
    result, curve = bench.train(bench.evaluation(27))
    assert [row.batches for row in curve.rows] == [10, 20, 27]  # 1,350 images are 10 batches of 128
    assert [row.epoch for row in curve.rows] == [1.0, 2.0, 2.7]
    assert curve.ended.status == "finished"
    assert result.loss == curve.rows[-1].validation_error == curve.ended.validation_error
    assert result.status == "finished"
    assert tuple(result.info) == (*INFO_KEYS, LOWER_RUNGS_KEY)


def test_a_result_tells_what_the_training_had_on_the_rungs_that_it_passed(root: Path, tmp_path: Path) -> None:
    epochs = ("search.budget_unit=epochs", "search.min_budget=1", "search.max_budget=3")
    long, short = (Bench(root, tmp_path / name, *epochs) for name in ("long", "short"))
    result = long.train(long.evaluation(3))[0]
    assert result.info[LOWER_RUNGS_KEY] == [[1.0, short.train(short.evaluation(1))[0].loss]]


def test_parameters_flops_and_latency_are_metrics_of_every_finished_evaluation(root: Path, tmp_path: Path) -> None:
    benches = [Bench(root, tmp_path / str(size), *IN_BATCHES, f"training.latency_batch={size}") for size in (1, 200)]
    ends = [bench.train(bench.evaluation(9))[1].ended for bench in benches]
    assert [end.metrics["latency_batch"] for end in ends] == [1, 200]
    assert 0 < ends[0].metrics["latency_s"] < ends[1].metrics["latency_s"]
    result, curve = benches[0].train(benches[0].evaluation(27))
    assert {name: result.info[name] for name in curve.ended.metrics} == curve.ended.metrics
    assert curve.ended.metrics["parameters"] == curve.header.parameters > 0
    assert curve.ended.metrics["flops_per_image"] == curve.header.flops_per_image > 0


def test_a_latency_that_takes_more_than_its_share_of_the_training_is_left_out_with_the_reason_unless_it_is_an_objective(
    root: Path, tmp_path: Path
) -> None:
    few = ("search.budget_unit=batches", "search.min_budget=1", "search.max_budget=3", "training.latency_batch=1000")
    bench = Bench(root, tmp_path / "share", *few)
    result, curve = bench.train(bench.evaluation(1))
    assert "latency_s" not in curve.ended.metrics
    assert result.info["latency_s"] is None
    (note,) = result.info[NOTES_KEY]
    assert note.startswith("the latency was not measured: two passes of ")
    bench = Bench(root, tmp_path / "objective", *few, "search.objectives=[validation_error, latency_s]")
    result, curve = bench.train(bench.evaluation(1))
    assert curve.ended.metrics["latency_s"] == result.info["latency_s"] > 0
    assert NOTES_KEY not in result.info


def test_measuring_the_latency_leaves_the_model_as_it_was(bench: Bench) -> None:
    trainer = Trainer(bench.evaluation(9), bench.settings, bench.data)
    trainer.step(1.0)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    random = torch.random.get_rng_state()
    passes: list[int] = []
    measure = partial(
        measure_latency, trainer.model, bench.data.validation, bench.data, 8, nullcontext, lambda: passes.append(1)
    )
    assert measure(lambda: True, 5.0) is None
    assert measure(lambda: False, 5.0)
    assert len(passes) == 2 * 9  # the device is waited for before and after each
    assert measure(lambda: False, 0.0)  # the least that is a measurement
    assert len(passes) == 2 * (9 + 2)
    assert trainer.model.training
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_the_same_seed_gives_the_same_curve_bit_for_bit_and_another_seed_another(root: Path, tmp_path: Path) -> None:
    benches = [Bench(root, tmp_path / str(i), *IN_BATCHES) for i in range(3)]
    evaluation = benches[0].evaluation(27)
    curves = [benches[i].train(e)[1] for i, e in enumerate((evaluation, evaluation, replace(evaluation, seed=6)))]
    assert without_clocks(curves[0].rows) == without_clocks(curves[1].rows)
    assert without_clocks(curves[0].rows) != without_clocks(curves[2].rows)


@pytest.mark.parametrize("at", [0, 4, 10, 13, 26])
def test_interrupted_and_resumed_training_equals_uninterrupted_training_bit_for_bit(
    root: Path, tmp_path: Path, at: int
) -> None:
    whole, parts = Bench(root, tmp_path / "whole", *IN_BATCHES), Bench(root, tmp_path / "parts", *IN_BATCHES)
    expected_result, expected = whole.train(whole.evaluation(27))

    stopped, first = parts.train(parts.evaluation(27), stop_after(at))
    assert (stopped.status, stopped.loss, stopped.reason) == ("handed_back", None, "walltime")
    assert first.ended.status == "handed_back"
    result, second = parts.train(parts.evaluation(27, attempt=2))

    assert result.loss == expected_result.loss
    assert second.header.continued_from == "attempt 1"
    assert second.inherited == first.rows
    assert without_clocks(second.rows) == without_clocks(expected.rows)
    assert_same_weights(weights(parts, parts.evaluation(27, attempt=2)), weights(whole, whole.evaluation(27)))


def test_a_promoted_configuration_continues_from_its_lower_rung_like_one_trained_in_one_go(
    root: Path, tmp_path: Path
) -> None:
    whole, parts = Bench(root, tmp_path / "whole", *IN_BATCHES), Bench(root, tmp_path / "parts", *IN_BATCHES)
    whole.train(whole.evaluation(27))
    parts.train(parts.evaluation(9))
    result, curve = parts.train(parts.evaluation(27, continues=LowerRung(9, 1)))
    assert curve.header.continued_from == "rung 9 attempt 1"
    assert [row.batches for row in curve.rows] == [9, 10, 20, 27]  # the first rung ended within an epoch
    assert [row.rung for row in curve.rows] == [9, 27, 27, 27]
    assert result.info["batches"] == 27
    assert result.info["trained_here_s"] < result.info["training_s"]
    assert_same_weights(weights(whole, whole.evaluation(27)), weights(parts, parts.evaluation(27)))


def test_an_evaluation_whose_result_was_lost_after_its_last_checkpoint_is_measured_again_and_not_trained(
    bench: Bench,
) -> None:
    expected, first = bench.train(bench.evaluation(27))
    again, second = bench.train(bench.evaluation(27, attempt=2))
    assert again.loss == expected.loss
    assert again.info["trained_here_s"] == 0
    assert second.rows == first.rows


def test_a_stop_during_the_last_validation_hands_back_what_was_trained(bench: Bench) -> None:
    result, _ = bench.train(bench.evaluation(9), stop_after(9))
    assert result.status == "handed_back"
    again, curve = bench.train(bench.evaluation(9, attempt=2))
    assert again.status == "finished"
    assert again.info["trained_here_s"] == 0
    assert [row.batches for row in curve.rows] == [9]


def test_budgets_in_epochs_end_with_the_batch_that_completes_them(root: Path, tmp_path: Path) -> None:
    bench = Bench(root, tmp_path, "search.budget_unit=epochs", "search.min_budget=0.5", "search.max_budget=1.5")
    result, curve = bench.train(bench.evaluation(1.5))
    assert result.info["epochs"] == 1.5
    assert [row.batches for row in curve.rows] == [10, 15]
    # The rung at half an epoch ends a cycle: the last step before it and the last of all are near zero.
    assert curve.rows[-1].learning_rate < 0.1 * 0.05


def test_a_budget_in_seconds_is_overshot_by_less_than_a_batch_and_wall_time_is_accounted_for(
    root: Path, tmp_path: Path
) -> None:
    bench = Bench(root, tmp_path)
    result, curve = bench.train(bench.evaluation(1.2))
    info, row = result.info, curve.rows[-1]
    assert 1.2 <= info["training_s"] < 1.2 + 5 * info["training_s"] / info["batches"]
    phases = info["startup_s"] + info["compile_s"] + info["validation_s"] + info["checkpoint_s"]
    assert phases + info["trained_here_s"] == pytest.approx(info["wall_s"], rel=0.01)
    assert row.startup_s + row.validation_s + row.checkpoint_s + row.training_s == pytest.approx(row.wall_s, rel=0.01)


def test_the_test_set_is_measured_on_the_largest_budget_only_unless_a_setting_says_otherwise(
    root: Path, tmp_path: Path
) -> None:
    measured = {}
    for wanted in ("largest", "all", "never"):
        for largest in (False, True):
            bench = Bench(root, tmp_path / f"{wanted}-{largest}", *IN_BATCHES, f"training.test={wanted}")
            evaluation = replace(bench.evaluation(9), is_largest=largest)
            result, curve = bench.train(evaluation)
            assert (result.info["test_error"] is None) == math.isnan(curve.ended.test_error)
            measured[wanted, largest] = result.info["test_error"] is not None
    assert measured == {
        ("largest", False): False, ("largest", True): True, ("all", False): True, ("all", True): True,
        ("never", False): False, ("never", True): False,
    }  # fmt: skip


def test_a_configuration_that_is_too_large_crashes_before_it_is_built(bench: Bench) -> None:
    huge: dict[str, Any] = {f"nr_residual_blocks_{i}": 16 for i in (1, 2, 3)} | {
        f"res_branches_{i}": 5 for i in (1, 2, 3)
    }
    huge |= {"initial_filters": 32, "widen_factor_1": 8.0, "widen_factor_2": 4.0, "widen_factor_3": 4.0}
    curve = KeptCurve()
    with pytest.raises(CrashedError, match="parameters") as crash:
        bench.train(bench.evaluation(27, **huge), curve=curve)
    assert crash.value.kind == "too_large"
    assert "25," in crash.value.reason  # 25 G parameters
    assert (curve.ended.status, curve.ended.reason[:9]) == ("crashed", "too_large")
    assert curve.header.parameters > 20e9


def test_a_configuration_that_needs_more_memory_than_allowed_crashes_before_it_is_built(
    root: Path, tmp_path: Path
) -> None:
    bench = Bench(root, tmp_path, *IN_BATCHES, "training.memory_gb=0.001")
    with pytest.raises(CrashedError, match=r"a batch of 128 need about .* GB, 0\.0 GB are allowed") as crash:
        bench.train(bench.evaluation(27))
    assert crash.value.kind == "too_large"


def test_training_that_diverges_to_nan_crashes_as_not_finite(bench: Bench) -> None:
    curve = KeptCurve()
    with pytest.raises(CrashedError) as crash:
        bench.train(bench.evaluation(27, learning_rate=1e30, momentum=0.99), curve=curve)
    assert crash.value.kind == "not_finite"
    assert curve.ended.status == "crashed"


def test_a_curve_that_cannot_be_written_is_the_installations_fault(bench: Bench) -> None:
    class FullDisk(KeptCurve):
        def add(self, *rows: EpochRow) -> Never:
            raise OSError(28, "No space left on device")

    with pytest.raises(BrokenError, match="No space left"):
        bench.train(bench.evaluation(9), curve=FullDisk())


def test_a_checkpoint_that_cannot_be_written_is_the_installations_fault(bench: Bench) -> None:
    bench.folder.checkpoints.write_text("a file where the folder should be")
    curve = KeptCurve()
    with pytest.raises(BrokenError, match="cannot write the checkpoint"):
        bench.train(bench.evaluation(9), curve=curve)
    assert curve.ended.status == "broken"


@pytest.mark.parametrize("recipe", ["default", "paper-code"])
def test_the_loss_is_the_error_on_clean_images_whatever_the_recipe(root: Path, tmp_path: Path, recipe: str) -> None:
    bench = Bench(root, tmp_path / "run", *IN_BATCHES, f"training.recipe={recipe}")
    result, curve = bench.train(bench.evaluation(9, cutout_length=8))
    assert result.loss == result.info["validation_error"]
    augmented = result.info["augmented_validation_error"]
    assert (augmented is not None) is (recipe == "paper-code")
    assert (curve.header.recipe, curve.header.threads) == (recipe, 1)
    trainer = Trainer(bench.evaluation(9, cutout_length=8), bench.settings, bench.data)
    trainer.model.load_state_dict(weights(bench, bench.evaluation(9)))
    images, labels = bench.data.validation.images, bench.data.validation.labels

    def error(prepared: torch.Tensor) -> float:
        with torch.inference_mode():
            return float((trainer.model.eval()(prepared).argmax(1) != labels).double().mean())

    clean = network_input((images.float() - bench.data.mean) / bench.data.deviation)
    seed_device(torch.device("cpu"), derive_seed(5, "augmented validation", 9))
    with_cutout = error(trainer.augmenter.unmixed(images))
    assert result.loss == error(clean) != with_cutout
    assert augmented in (None, with_cutout)
