"""The decomposition against functions whose decomposition is known, and against plain averaging."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from pipeline.analysis.axes import Axis, encode_all, read_axes
from pipeline.analysis.fanova import Fanova, tree_boxes


def axes(*names: str) -> list[Axis]:
    return [Axis(name, name) for name in names]


def uniform(count: int, names: list[str], seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).random((count, len(names))), columns=names)


def shares(fitted: Fanova) -> dict[object, float]:
    mains = dict(zip(fitted.mains["name"], fitted.mains["share"], strict=True))
    pairs = {(row.one, row.two): row.share for row in fitted.pairs.itertuples()}
    return {**mains, **pairs}


def test_the_marginals_of_a_tree_are_those_of_averaging_its_predictions() -> None:
    # A discrete axis, a skewed categorical one and two continuous ones; the average is over a full grid.
    space = [
        Axis("n", "n", choices=(1, 2, 3), coordinates=(0.0, 0.63, 1.0), masses=(0.5, 0.3, 0.2)),
        Axis("c", "c", choices=("a", "b"), coordinates=(0.0, 1.0), masses=(0.9, 0.1), is_numeric=False),
        *axes("x", "y"),
    ]
    generator = np.random.default_rng(1)
    points = np.column_stack([axis.draw(150, generator) for axis in space])
    losses = points[:, 2] * (1 + points[:, 0]) + 2 * points[:, 1] * points[:, 3] + 0.1 * generator.random(150)
    forest = RandomForestRegressor(3, min_samples_leaf=3, max_leaf_nodes=25, random_state=0).fit(points, losses)
    for estimator in forest.estimators_:
        boxes = tree_boxes(estimator.tree_, space)
        cells = [np.concatenate([[-1.0], t, [2.0]]) for t in boxes.thresholds]
        centres = [(c[1:] + c[:-1]) / 2 for c in cells]
        for a, axis in enumerate(space):  # a point inside every cell; cells beyond the space have no mass
            centres[a] = np.clip(centres[a], 0, 1) if not axis.is_discrete else centres[a]
        grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
        predicted = estimator.predict(grid.reshape(-1, len(space))).reshape(grid.shape[:-1])
        w = boxes.masses
        assert boxes.mean == pytest.approx(np.einsum("abcd,a,b,c,d->", predicted, *w))
        squares = (predicted - boxes.mean) ** 2
        assert boxes.variance == pytest.approx(np.einsum("abcd,a,b,c,d->", squares, *w))
        np.testing.assert_allclose(boxes.marginal(2), np.einsum("abcd,a,b,d->c", predicted, w[0], w[1], w[3]))
        np.testing.assert_allclose(boxes.surface(0, 2), np.einsum("abcd,b,d->ac", predicted, w[1], w[3]))
        np.testing.assert_allclose(boxes.surface(1, 3), np.einsum("abcd,a,c->bd", predicted, w[0], w[2]))


def test_the_ishigami_function_has_its_known_decomposition() -> None:
    # Ishigami and Homma 1990 with a = 7, b = 0.1: S1 = 0.3139, S2 = 0.4424, S13 = 0.2437, all else 0.
    values = uniform(3000, ["a", "b", "c"])
    x = np.pi * (2 * values - 1)
    losses = np.sin(x["a"]) + 7 * np.sin(x["b"]) ** 2 + 0.1 * x["c"] ** 4 * np.sin(x["a"])
    found = shares(Fanova(axes("a", "b", "c"), values, losses.to_numpy(), trees=32))
    expected = {"a": 0.3139, "b": 0.4424, "c": 0.0, ("a", "b"): 0.0, ("a", "c"): 0.2437, ("b", "c"): 0.0}
    for what, share in expected.items():
        assert found[what] == pytest.approx(share, abs=0.05), what


def test_an_additive_function_with_one_interaction_has_no_other() -> None:
    values = uniform(2000, list("abcd"))
    u = values - 0.5
    # 6 c d = 6 u_c u_d + 3 u_c + 3 u_d + 1.5, so the variances are, in twelfths: a 4, b 1, c 9, d 9, c x d 3.
    losses = 2 * u["a"] + u["b"] + 6 * values["c"] * values["d"]
    fitted = Fanova(axes(*"abcd"), values, losses.to_numpy(), trees=32)
    found = shares(fitted)
    expected = {"a": 4 / 26, "b": 1 / 26, "c": 9 / 26, "d": 9 / 26, ("c", "d"): 3 / 26}
    for what, share in expected.items():
        assert found[what] == pytest.approx(share, abs=0.05), what
    others = [share for what, share in found.items() if isinstance(what, tuple) and what != ("c", "d")]
    assert max(others) < 0.03
    assert fitted.oob_r2 > 0.85
    assert fitted.warnings == ()


def conditional(count: int) -> tuple[list[Axis], pd.DataFrame, np.ndarray]:
    space = read_axes(
        {
            "hyperparameters": [
                {"type": "categorical", "name": "optimiser", "choices": ["sgd", "adam"], "weights": None},
                {"type": "uniform_float", "name": "momentum", "lower": 0.0, "upper": 1.0, "log": False},
                {"type": "constant", "name": "fixed", "value": 3},
            ]
        }
    )
    generator = np.random.default_rng(0)
    parent, child = generator.choice(["sgd", "adam"], count), generator.random(count)
    is_sgd = parent == "sgd"
    losses = np.where(is_sgd, 2 * child, 0.5)
    values = pd.DataFrame({"optimiser": parent, "momentum": np.where(is_sgd, child, np.nan)})
    return space, values, losses


def test_a_conditional_child_counts_only_where_it_is_active() -> None:
    space, values, losses = conditional(2000)
    assert [axis.name for axis in space] == ["optimiser", "momentum"]
    found = shares(Fanova(space, values, losses, trees=32))
    # f = 2c if sgd else 0.5: main of the parent 0.0625, of the child 1/12, interaction 1/12.
    total = 0.0625 + 1 / 12 + 1 / 12
    assert found["optimiser"] == pytest.approx(0.0625 / total, abs=0.05)
    assert found["momentum"] == pytest.approx(1 / 12 / total, abs=0.05)
    assert found["optimiser", "momentum"] == pytest.approx(1 / 12 / total, abs=0.05)


def test_inactive_values_are_drawn_from_the_prior() -> None:
    space, values, _ = conditional(2000)
    points = encode_all(space, values, np.random.default_rng(0))
    inactive = points[values["momentum"].isna(), 1]
    assert len(inactive) > 900
    np.testing.assert_allclose(np.quantile(inactive, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.04)


def test_marginal_curves_follow_the_function() -> None:
    values = uniform(1500, ["a", "b"])
    fitted = Fanova(axes("a", "b"), values, (values["a"] ** 2 + 3 * values["a"] * values["b"]).to_numpy(), trees=32)
    grid, mean, spread = fitted.curve("a", 21)
    np.testing.assert_allclose(mean[1:-1], (grid**2 + 1.5 * grid)[1:-1], atol=0.15)
    assert (spread >= 0).all()
    one, two, surface = fitted.surface("a", "b", 9)
    expected = one[:, None] ** 2 + 3 * one[:, None] * two[None, :]
    assert np.abs(surface - expected)[1:-1, 1:-1].max() < 0.35


def test_all_17_main_effects_and_136_pairs_take_less_than_two_seconds_at_a_thousand_configurations() -> None:
    names = [f"h{number}" for number in range(17)]
    values = uniform(1000, names)
    losses = (values**2).sum(axis=1) + 3 * values["h0"] * values["h1"]
    begin = time.process_time()  # of CPU: other processes on the machine do not count
    fitted = Fanova(axes(*names), values, losses.to_numpy())
    assert time.process_time() - begin < 2
    assert (len(fitted.mains), len(fitted.pairs)) == (17, 136)
    largest = fitted.pairs.iloc[fitted.pairs["share"].argmax()]
    assert (largest["one"], largest["two"]) == ("h0", "h1")


def test_too_few_configurations_and_pure_noise_are_said() -> None:
    values = uniform(40, list("abcdefghij"))
    noise = np.random.default_rng(1).random(40)
    fitted = Fanova(axes(*"abcdefghij"), values, noise, trees=16)
    assert any("only 40 configurations for 10 hyperparameters" in warning for warning in fitted.warnings)
    assert any("explains little" in warning for warning in fitted.warnings)
    with pytest.raises(ValueError, match="needs at least 20 configurations"):
        Fanova(axes("a"), values[:5], noise[:5])


def test_the_prior_of_integers_is_the_one_that_configspace_draws_from() -> None:
    from ConfigSpace import ConfigurationSpace, Integer

    space = ConfigurationSpace(seed=0)
    space.add(Integer("blocks", (1, 16), log=True), Integer("branches", (1, 5)))
    drawn = pd.DataFrame([dict(c) for c in space.sample_configuration(20_000)])
    for axis in read_axes(json.loads(json.dumps(space.to_serialized_dict()))):
        frequencies = drawn[axis.name].value_counts(normalize=True).reindex(axis.choices, fill_value=0)
        np.testing.assert_allclose(axis.masses, frequencies, atol=0.012)
        np.testing.assert_allclose(axis.decode(axis.encode(drawn[axis.name])), drawn[axis.name])
