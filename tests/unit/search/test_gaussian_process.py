"""The Gaussian process: likelihood, gradients and posterior against the textbook's formulae, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal, norm

from pipeline.search.belief import log_expected_improvement, standardised
from pipeline.search.gaussian_process import (
    JITTER,
    NEIGHBOURS,
    Data,
    Embedding,
    Hyperparameters,
    Posterior,
    _Objective,
    _priors,
    fit,
)

CHOICES, CONDITIONAL = np.array([0, 3, 0]), np.array([False, False, True])


def observations(n: int, seed: int) -> tuple[Data, np.ndarray, Embedding]:
    random = np.random.default_rng(seed)
    points = np.column_stack([random.random(n), random.integers(3, size=n), random.random(n)])
    points[random.random(n) < 0.3, 2] = np.nan
    embedding = Embedding(CHOICES, CONDITIONAL)
    level = random.integers(2, size=n)
    y = np.sin(5 * points[:, 0]) + (points[:, 1] == 1) + 0.3 * level + 0.1 * random.standard_normal(n)
    return Data(embedding(points), level), y - y.mean(), embedding


def covariance(data: Data, h: Hyperparameters, groups: np.ndarray, noise: bool) -> np.ndarray:
    """Pair by pair, as the module's docstring has it."""
    n = len(data)
    matrix = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            r = np.sqrt(5 * (((data.x[i] - data.x[j]) / h.lengths[groups]) ** 2).sum())
            a, b = data.level[i], data.level[j]
            matern = (1 + r + r * r / 3) * np.exp(-r)
            matrix[i, j] = matern * (h.factor[a] @ h.factor[b]) + h.offset * NEIGHBOURS ** abs(a - b)
    return matrix + noise * np.diag(h.noise[data.level] + JITTER)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_likelihood_is_the_normal_distributions_and_its_gradient_its_derivative(seed: int) -> None:
    data, y, embedding = observations(14, seed)
    means, deviations = _priors(3, 2)
    objective = _Objective(data, y, embedding.groups, 3, 2, means, deviations)
    at = means + 0.7 * np.random.default_rng(seed).standard_normal(len(means))
    value, gradient = objective(at)
    h = Hyperparameters.from_vector(at, 3, 2)
    written_out = multivariate_normal(np.zeros(14), covariance(data, h, embedding.groups, noise=True)).logpdf(y)
    prior = 0.5 * (((at - means) / deviations) ** 2).sum()
    assert value == pytest.approx(-written_out - 7 * np.log(2 * np.pi) + prior, rel=1e-8)
    np.testing.assert_allclose(gradient, approx_fprime(at, lambda x: objective(x)[0], 1e-6), rtol=1e-3, atol=1e-3)


def test_the_posterior_is_the_textbooks() -> None:
    data, y, embedding = observations(20, 3)
    h = Hyperparameters(np.array([0.5, 1.0, 2.0]), 0.4, np.array([0.1, 0.02]), np.array([[1.2, 0.0], [-0.5, 0.8]]))
    known, asked = data[slice(0, 15)], data[slice(15, 20)]
    full = covariance(data, h, embedding.groups, noise=False)
    inner = full[:15, :15] + np.diag(h.noise[known.level] + JITTER)
    mean, deviation = Posterior(known, y[:15], embedding.groups, h)(asked)
    np.testing.assert_allclose(mean, full[15:, :15] @ np.linalg.solve(inner, y[:15]))
    explained = full[15:, :15] @ np.linalg.solve(inner, full[:15, 15:])
    np.testing.assert_allclose(deviation, np.sqrt(np.diag(full[15:, 15:] - explained)))


def test_an_evaluation_under_way_takes_uncertainty_away_and_leaves_the_mean() -> None:
    data, y, embedding = observations(20, 4)
    h = fit(data, y, embedding.groups, 2)
    pending, elsewhere = data[slice(18, 19)], data[slice(19, 20)]
    known = data[slice(0, 18)]
    before = Posterior(known, y[:18], embedding.groups, h)
    after = Posterior(known, y[:18], embedding.groups, h, pending)
    np.testing.assert_allclose(before(elsewhere)[0], after(elsewhere)[0])
    assert after(pending)[1] < 0.8 * before(pending)[1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_categories_and_conditions_give_a_valid_kernel(seed: int) -> None:
    data, _, embedding = observations(25, seed)
    h = Hyperparameters(np.full(3, 0.4), 0.0, np.zeros(2), np.array([[1.0, 0.0], [-0.9, 0.3]]))
    assert np.linalg.eigvalsh(covariance(data, h, embedding.groups, noise=False)).min() > -1e-9


def test_fitting_tells_what_matters_from_what_does_not() -> None:
    random = np.random.default_rng(1)
    points = random.random((60, 3))
    embedding = Embedding(np.zeros(3, dtype=int), np.zeros(3, dtype=bool))
    y = standardised(np.sin(6 * points[:, 0]) + 0.01 * random.standard_normal(60))
    data = Data(embedding(points), np.zeros(60, dtype=int))
    h = fit(data, y, embedding.groups, 1)
    assert h.lengths[0] < 0.3 * h.lengths[1:].min()
    assert h.noise[0] < 0.05


def test_fitting_tells_budgets_that_agree_from_one_that_ranks_against_them() -> None:
    random = np.random.default_rng(2)
    points = np.tile(random.random((20, 2)), (3, 1))
    level = np.repeat([0, 1, 2], 20)
    good = (points[:, 0] - 0.3) ** 2 + 0.3 * points[:, 1]
    y = standardised(np.where(level == 0, -good, good) + 0.5 * level + 0.01 * random.standard_normal(60))
    embedding = Embedding(np.zeros(2, dtype=int), np.zeros(2, dtype=bool))
    coupling = fit(Data(embedding(points), level), y, embedding.groups, 3).coupling
    correlation = coupling / np.sqrt(np.outer(np.diag(coupling), np.diag(coupling)))
    assert correlation[1, 2] > 0.8
    assert correlation[0, 2] < -0.6


def test_expected_improvement_is_right_near_and_far() -> None:
    u = np.array([-40.0, -6.1, -5.9, -1.0, 0.0, 3.0])
    exact = norm.pdf(u) + u * norm.cdf(u)
    found = log_expected_improvement(u)
    np.testing.assert_allclose(np.exp(found[2:]), exact[2:], rtol=1e-6)
    assert found[0] == pytest.approx(-0.5 * 1600 - 0.5 * np.log(2 * np.pi) - np.log(1600), rel=1e-6)
    assert abs(found[1] - found[2]) < 1.5


def test_hopeless_losses_are_all_one() -> None:
    losses = np.array([0.1, 0.12, 0.15, 0.2, 0.3, 5.0, 1e6])
    values = standardised(losses)
    assert values[-1] == values[-2] > values[-3] > values[0]
    assert np.isfinite(standardised(np.full(6, 0.5))).all()
