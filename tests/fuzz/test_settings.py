"""Settings of every kind, typed and as YAML: everything can be made of them, or one line says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.sbatch_options import master_options, worker_options
from pipeline.search.brackets import planned_evaluations
from pipeline.search.search import Search
from pipeline.settings import budget_ladder, documented_settings, dump_settings, load_settings, preset_names
from pipeline.settings.schema import Settings
from pipeline.settings.section import SettingsSection
from tests.fuzz.commands import complaint
from tests.fuzz.mutations import mutated_bytes, mutated_value, tries


def fields(section: type[SettingsSection] = Settings, prefix: str = "") -> list[str]:
    """Every setting's name, sections included."""
    names: list[str] = []
    for name, field in section.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, SettingsSection):
            names += fields(field.annotation, f"{prefix}{name}.")
    return names


texts = st.sampled_from([
    "", "~", "null", "true", "no", "0", "-1", "1", "3", "1e9", "1e308", "1e400", "-1e400", "nan", ".inf",
    "10" * 400, "0x10", "1_000", "4:00:00", "!!float x", "!!int y", "!!bool z", "!!timestamp q", "!!binary é",
    "!!python/object:os.system {}", "!!set {a, b}", "!!omap [a: 1]", "!!map [1]", "!!seq {a: 1}", "!!str {a: 1}",
    "!x y", "&a [*a]", "&a {b: *a}", "*a", "{a: 1, a: 2}", "{? [a] : b}", "{? {a: b} : c}", "{<<: {a: 1}}",
    "[" * 5000, "{a: " * 2000, "[1, 2]", "[2, 1]", "[.nan, 1]", "[1e-3, 1.0]", "{learning_rate: [.inf, 1]}",
    "{learning_rate: [0.001, 1e400]}", "{batch_size: [32.5, 64]}", "{momentum: [0.1, 0.2, 0.3]}",
    "{cpus-per-task: false}", "{gres: 10}", 'a\x00b', 'a\nb', '- a\n- b', "%YAML 9.9", "`", "@a", "é", '\udcff',
    "cifar10", "x" * 3000, '\t', "#", ":", "a: b: c", "'", '"', "|", ">", '---\n---', "2026-01-01", "~nobody/x",
    "/", ".",
]) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(repr)  # fmt: skip
names = (
    st.sampled_from(fields()) | st.text(max_size=12) | st.sampled_from(["a.b.c", "search.eta.x", "space.x", "", "."])
)
overrides = st.builds("{}={}".format, names, texts) | st.text(max_size=20)


def use(source: Any, typed: list[str]) -> None:
    """Everything that is made of settings before anything is submitted."""
    settings = load_settings(source, typed)
    ladder = budget_ladder(settings.search)
    assert planned_evaluations(ladder, settings.search.eta, settings.search.iterations) > 0
    dump_settings(settings).encode()
    documented_settings(settings)
    worker_options(settings)
    master_options(settings)
    if settings.problem == Settings().problem:  # a user's own has its space once its file was read
        Search(settings).next_evaluation()


@tries(120)
@given(st.sampled_from(preset_names()), st.lists(overrides, min_size=1, max_size=3))
def test_settings_that_are_typed(preset: str, typed: list[str]) -> None:
    complaint(use, preset, typed)


@tries(40)
@given(st.data())
def test_a_yaml_file_with_other_values(tmp_path_factory: Any, data: st.DataObject) -> None:
    values = data.draw(mutated_value(yaml.safe_load(dump_settings(load_settings("digits")))))
    path = tmp_path_factory.mktemp("settings") / "mine.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=False), encoding="utf-8")
    text = complaint(use, path, [])
    assert not text or "mine.yaml" in text


@tries(40)
@given(st.data())
def test_a_yaml_file_with_other_bytes(tmp_path_factory: Any, data: st.DataObject) -> None:
    path: Path = tmp_path_factory.mktemp("settings") / "mine.yaml"
    content = documented_settings(load_settings("digits")).encode()
    path.write_bytes(data.draw(mutated_bytes(content)))
    text = complaint(use, path, [])
    assert not text or "mine.yaml" in text
