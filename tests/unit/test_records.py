from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import (
    EpochRow,
    Evaluation,
    LowerRung,
    budget_name,
    config_name,
    derive_seed,
    parse_config_name,
    row_columns,
)
from pipeline.run.folder import RunFolder

config_ids = st.tuples(*[st.integers(0, 10**6)] * 3)
budgets = st.floats(1e-6, 1e9)


@given(config_ids)
def test_a_config_id_survives_its_name(config_id: tuple[int, int, int]) -> None:
    assert parse_config_name(config_name(config_id)) == config_id


@given(budgets)
def test_a_budget_survives_its_name(budget: float) -> None:
    assert float(budget_name(budget)) == budget


@given(config_ids, budgets, st.integers(1, 99))
def test_an_attempts_file_name_says_which_attempt_it_is(
    config_id: tuple[int, int, int], budget: float, attempt: int
) -> None:
    from pathlib import Path

    folder = RunFolder(Path("/runs/r"))
    assert folder.parse_attempt(folder.attempt(config_id, budget, attempt)) == (config_id, budget, attempt)


@given(config_ids, budgets, st.none() | st.builds(LowerRung, budgets, st.integers(1, 9)))
def test_an_evaluation_survives_the_wire(
    config_id: tuple[int, int, int], budget: float, lower: LowerRung | None
) -> None:
    evaluation = Evaluation(config_id, {"a": 1, "b": 0.5, "c": "x"}, budget, 2, 7, lower, is_largest=True)
    assert Evaluation.from_plain(evaluation.to_plain()) == evaluation


def test_seeds_depend_on_every_key_and_on_nothing_else() -> None:
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2)
    seeds = {derive_seed(r, k, i) for r in range(3) for k in "ab" for i in range(3)}
    assert len(seeds) == 18
    assert all(0 <= s < 2**63 for s in seeds)


def test_every_column_has_a_description() -> None:
    assert all(description for _, _, description in row_columns(EpochRow))
