"""The comparison of the recipes: resumes, and says what its rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import recipes
from benchmarks.recipes import explained_by_cutout, read, run, tables


def row(recipe: str, name: str, error: float | None, cutout: int = 0, seed: int = 0) -> dict[str, object]:
    return {"recipe": recipe, "name": name, "seed": seed, "error": error, "augmented": 0.5, "cutout": cutout}


def test_what_has_been_trained_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_BENCH_DATA", str(tmp_path / "data"))
    small = {"drawn 0": {**recipes.TRAINING, **recipes.configurations("digits", 2)["drawn 0"], "batch_size": 128}}
    monkeypatch.setattr(recipes, "configurations", lambda *given: small)
    path = tmp_path / "trainings.jsonl"
    run("digits", 0.2, 1, 1, path)
    first = read(path)
    assert [(r["recipe"], r["augmented"] is None) for r in first] == [("default", True), ("paper-code", False)]
    run("digits", 0.2, 1, 2, path)
    assert read(path)[:2] == first
    assert [r["seed"] for r in read(path)] == [0, 0, 1, 1]


def test_the_tables_compare_what_both_recipes_trained() -> None:
    rows = [row(r, "shake", e) for r, e in (("default", 0.1), ("paper-code", 0.2))] + [row("default", "alone", 0.3)]
    for i in range(6):
        rows += [row("default", f"drawn {i}", i / 10, cutout=i), row("paper-code", f"drawn {i}", -i / 10, cutout=i)]
        rows.append({**row("default", f"drawn {i}", i / 10, cutout=i), "seed": 1})
    rows.append(row("default", "drawn 9", None))
    named, drawn = tables(rows)
    assert named[1] == [["shake", "10.00%", "20.00%", "50.00%"]]
    said = dict(drawn[1])
    assert said["compared"] == "6"
    assert said["mean error, default"] == "25.0%"
    assert said["difference, mean (s.e.)"].startswith("-50.0")
    assert said["Spearman between the recipes"] == "-1.00 (-1.00 to -1.00)"
    assert said["Spearman between two seeds, default"].startswith("1.00")
    assert "Spearman between two seeds, paper-code" not in said


def test_the_cutout_length_explains_what_depends_on_it_alone() -> None:
    cutout = [0.0, 1.0, 2.0, 5.0, 9.0, 12.0]
    assert explained_by_cutout(cutout, [0.1 + 0.02 * c - 0.001 * c * c for c in cutout]) == pytest.approx(1.0)
    assert explained_by_cutout(cutout, [0.1, 0.9, 0.1, 0.9, 0.1, 0.9]) < 0.5
