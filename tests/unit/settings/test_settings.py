import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.settings import (
    SearchSettings,
    budget_ladder,
    documented_settings,
    dump_settings,
    load_settings,
    preset_comment,
    preset_names,
    validate_settings,
)
from pipeline.settings.space import HYPERPARAMETERS


def test_the_cifar10_preset_is_the_papers_search() -> None:
    settings = load_settings("cifar10")
    assert budget_ladder(settings.search) == (400, 1200, 3600, 10800)
    assert settings.search.iterations == 64
    assert settings.workers.count == 10
    assert settings.search.promotion == "restart"
    assert settings.training.schedule == "doubling"
    assert settings.data.validation_fraction == 0.1
    assert not settings.space, "the paper's ranges"


def test_cifar10_fast_differs_only_where_promotions_continue() -> None:
    paper, fast = (load_settings(name).model_dump() for name in ("cifar10", "cifar10-fast"))
    differences = {
        f"{section}.{field}"
        for section, values in paper.items()
        if isinstance(values, dict)
        for field, value in values.items()
        if fast[section][field] != value
    }
    assert differences == {"search.promotion", "training.schedule"}


def test_cifar10_as_published_differs_only_in_its_recipe() -> None:
    paper, published = (load_settings(name).model_dump() for name in ("cifar10", "cifar10-as-published"))
    paper["training"]["recipe"] = "paper-code"
    assert {**paper, "name": published["name"]} == published


def test_the_papers_recipe_is_float32() -> None:
    with pytest.raises(SettingsError, match=r"training.*trains in float32"):
        load_settings("cifar10-as-published", ["training.precision=bfloat16"])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_says_what_it_is_and_survives_a_round_trip(name: str) -> None:
    settings = load_settings(name)
    assert preset_comment(name)
    assert validate_settings(yaml.safe_load(dump_settings(settings))) == settings
    assert validate_settings(yaml.safe_load(documented_settings(settings))) == settings


def test_every_field_is_documented() -> None:
    text = documented_settings(load_settings("digits")).splitlines()
    for number, line in enumerate(text):
        stripped = line.strip()
        is_field = stripped.partition(":")[0].replace("_", "").isalpha() and ":" in stripped
        is_range = stripped.startswith("- ") or stripped.partition(":")[0] in load_settings("digits").space
        if is_field and not is_range and not stripped.startswith("#"):
            assert text[number - 1].strip().startswith("#"), line


@pytest.mark.parametrize(
    ("override", "field", "allowed"),
    [
        ("search.eta=1", "search.eta", "greater than or equal to 2"),
        ("search.eta=three", "search.eta", "number"),
        ("search.method=tpe", "search.method", "'bohb', 'gp', 'hyperband' or 'random'"),
        ("search.max_budget=100", "search.max_budget", "145.8"),
        ("search.min_budget=20", "search.max_budget", "below search.min_budget (20)"),
        ("search.budgets=[1,3]", "search.budgets", "min_budget"),
        ("data.dataset=mnist", "data.dataset", "fashion_mnist"),
        ("space.momentum=[0,1]", "space.momentum", "[0.001, 0.99]"),
        ("space.momentum=[0.5,0.5]", "space.momentum", "a single value, without brackets, fixes it"),
        ("space.res_branches_1=[1.5,3]", "space.res_branches_1", "whole"),
        ("space.colour=[0,1]", "space.colour", "learning_rate"),
        ("space.momentum=1.5", "space.momentum", "[0.001, 0.99]"),
        ("space.momentum=[0.5]", "space.momentum", "a range [lower, upper]"),
        ("space.momentum=[low,0.5]", "space.momentum", "['low', 0.5] is neither a range"),
        ("space.optimizer=adam", "space.optimizer", "sgd, adamw"),
        ("space=3", "space", "a section of names and values"),
        ("network=ib0", "network", "a section with the fields address, ports"),
        ("slurm.extra.a=[1]", "slurm.extra.a", "a text"),
        ("slurm.walltime_min=4:00:00", "slurm.walltime_min", "got '4:00:00', input should be a whole number"),
        ("training.compile=maybe", "training.compile", "true or false"),
        ("data.root=", "data.root", "a path"),
        ("data.root=~nobody-of-that-name/data", "data.root", "home"),
        ("network.ports=[5000,5001]", "network", "at least 4"),
        (
            "slrum.partition=gpu",
            "slrum",
            "known: name, seed, problem, data, space, search, training, workers, network, slurm",
        ),
        ("name=../x", "name", "pattern"),
        ("search.eta=inf", "search.eta", "finite"),
        ("search.iterations=1000000000", "search.iterations", "less than or equal to 1000000"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_field_and_what_is_allowed(
    override: str, field: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings("digits", [override])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"digits: {field}: ")
    assert allowed in message
    assert "more)" not in message


@pytest.mark.parametrize(
    ("typed", "why"), [("!!float x", "the tag"), ("[" * 5000, "it has more than 500 opening brackets")]
)
def test_what_yaml_cannot_be_made_of_is_refused_in_one_line(typed: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as refused:
        load_settings("digits", [f"search.eta={typed}"])
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("search.eta: ")


@pytest.mark.parametrize("override", ["search.eta", "=3", "search..eta=3", "name.x=1", "search.eta={"])
def test_a_malformed_override_is_named(override: str) -> None:
    with pytest.raises(SettingsError, match=override.split("=")[0].split(".")[0] or "="):
        load_settings("digits", [override])


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("12345", "12345"), ("007", "007"), ("1_000", "1_000"), ("no", "no"), ("true", "true"),
     ("2026-01-01", "2026-01-01"), ("4:00:00", "4:00:00"), ("[rack1|rack2]", "[rack1|rack2]"), ("@x", "@x"),
     ("'12'", "12"), ("null", None)],
)  # fmt: skip
def test_a_text_is_what_was_typed_though_yaml_would_make_something_else_of_it(typed: str, kept: str | None) -> None:
    settings = load_settings("digits", [f"slurm.account={typed}"])
    assert settings.slurm.account == kept
    assert validate_settings(yaml.safe_load(dump_settings(settings))) == settings


def test_a_file_says_a_text_a_number_a_switch_and_an_empty_section_as_they_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "name: 2024\nsearch:\n  # all as it is\ntraining: {compile: yes}\nworkers: {patience_s: 1e2}\n"
        "slurm: {gpu_type: 1080, exclude: [1, 2], extra: {nice: 100, requeue: false}}\n"
    )
    settings = load_settings(path, ["search.iterations=3"])
    assert settings.name == "2024"
    assert (settings.training.compile, settings.workers.patience_s, settings.search.iterations) == (True, 100, 3)
    assert (settings.slurm.gpu_type, settings.slurm.exclude) == ("1080", ("1", "2"))
    assert settings.slurm.extra == {"nice": "100", "requeue": False}


def test_the_data_folder_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(load_settings("digits", ["data.root=~/data"]).data.root) == "/home/somebody/data"


def test_the_papers_ranges_stand_as_comments_under_the_space() -> None:
    lines = documented_settings(load_settings("cifar10", ["space.momentum=[0.5, 0.9]"])).splitlines()
    first = lines.index("space:") + 1
    shown = {h.name: f"  # {h.name}: [{h.lower}, {h.upper}]" for h in HYPERPARAMETERS}
    assert set(shown.values()) <= set(lines[first : first + 18])
    assert lines[lines.index(shown["momentum"]) + 1] == "  momentum: [0.5, 0.9]"


def test_a_missing_file_lists_the_presets() -> None:
    with pytest.raises(SettingsError, match="cifar10-fast"):
        load_settings("no-such-preset")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SettingsError, match=r"settings\.yaml cannot be read: .*byte 0xe9"):
        load_settings(path)


def test_a_name_that_a_file_gives_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("search:\n  eta: 3\n  iterations: 4\n  eta: 2\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"eta is given twice, first in line 2") as refused:
        load_settings(str(path))
    assert "\n" not in str(refused.value)
    assert "line 4" in str(refused.value)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(SettingsError, match="mapping"):
        load_settings(path)


@given(low=st.floats(1e-3, 1e4), high=st.floats(1e-3, 1e4), eta=st.sampled_from([2.0, 2.5, 3.0, 4.0, 10.0]))
def test_what_a_wrong_ladder_names_works(low: float, high: float, eta: float) -> None:
    ends: dict[str, Any] = {"min_budget": low, "max_budget": high}
    try:
        budget_ladder(SearchSettings(**ends, eta=eta))
    except ValueError as error:
        named = re.findall(r"search\.(m.._budget)=([\w.+-]+)", str(error))
        assert [name for name, _ in named] == ["max_budget", "min_budget"]
        for name, value in named:
            assert budget_ladder(SearchSettings(**{**ends, name: float(value)}, eta=eta))


@given(low=st.floats(1e-3, 1e4), eta=st.sampled_from([2.0, 2.5, 3.0, 4.0, 10.0]), rungs=st.integers(0, 6))
def test_a_ladder_has_both_ends_and_steps_of_eta(low: float, eta: float, rungs: int) -> None:
    ladder = budget_ladder(SearchSettings(min_budget=low, max_budget=low * eta**rungs, eta=eta))
    assert len(ladder) == rungs + 1
    assert ladder[-1] == low * eta**rungs
    assert math.isclose(ladder[0], low, rel_tol=2e-3)
    for lower, upper in itertools.pairwise(ladder):
        assert math.isclose(upper / lower, eta, rel_tol=1e-6)


def test_the_ladders_that_hpbandster_truncates_are_whole() -> None:
    assert budget_ladder(SearchSettings(min_budget=1, max_budget=243, eta=3)) == (1, 3, 9, 27, 81, 243)
    assert budget_ladder(SearchSettings(min_budget=1, max_budget=1000, eta=10)) == (1, 10, 100, 1000)


def test_random_search_has_the_largest_budget_alone() -> None:
    assert budget_ladder(SearchSettings(method="random", min_budget=1, max_budget=9)) == (9,)


@pytest.mark.parametrize(("count", "least"), [(10, 6), (1000, 20)])
def test_a_patience_that_gives_up_healthy_workers_is_refused_and_the_least_is_told(count: int, least: int) -> None:
    load_settings("digits", [f"workers.count={count}", f"workers.patience_s={least}"])
    with pytest.raises(SettingsError, match=rf"patience_s: {least - 1} s would give up .* at least {least}"):
        load_settings("digits", [f"workers.count={count}", f"workers.patience_s={least - 1}"])


def test_what_is_wrong_with_a_name_that_cannot_be_printed_is_one_line_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text('"\\n": true\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine\.yaml: \\n: unknown field") as found:
        load_settings(path)
    assert "\n" not in str(found.value)


def test_a_text_or_a_number_without_end_is_refused_in_a_line_that_can_be_read() -> None:
    with pytest.raises(SettingsError, match=r"space\.momentum: 'x+ \[\.\.\.\] x+' is neither a range") as found:
        load_settings("digits", [f"space.momentum={'x' * 3000}"])
    assert len(str(found.value)) < 1_000
    with pytest.raises(SettingsError, match=r"space\.momentum: .* a whole number has 64 bits at most"):
        load_settings("digits", [f"space.momentum={10**400}"])
