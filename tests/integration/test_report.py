"""The report of a collected run, as a person gets it."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread

from benchmarks.synthetic_run import write_synthetic_run
from pipeline import operations
from pipeline.analysis.markup import embedded
from pipeline.analysis.report import make_report
from pipeline.cli.pages import figures, tables
from pipeline.errors import RunError
from pipeline.run.folder import RunFolder, find_collected
from pipeline.settings import load_settings
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results

SETTINGS = load_settings(
    "digits", ["search.min_budget=1", "search.max_budget=27", "workers.count=4", "search.iterations=12"]
)


class Page(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.sources += [named["src"]] if "src" in named else []


def test_the_page_needs_no_other_file_and_no_network(reported_run: RunFolder) -> None:
    page = Page(reported_run.report.read_text())
    assert len(page.sources) >= 4
    for source in page.sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert not [link for link in page.links if "//" in link]


def test_the_page_allows_its_own_style_and_script_by_hash_and_nothing_else(reported_run: RunFolder) -> None:
    text = reported_run.report.read_text()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (1, 1)
    for kind, content in (("script", scripts[0]), ("style", styles[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r'\s(style|on[a-z]+)="', re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))


def test_nothing_in_the_data_can_end_the_element_that_holds_it() -> None:
    text = embedded({"name": "</script><script>alert(1)</script>\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><script>alert(1)</script>\u2028"}


def test_the_page_of_the_report_stays_small(reported_run: RunFolder) -> None:
    assert reported_run.report.stat().st_size < 4e6


def test_every_link_of_the_page_leads_somewhere(reported_run: RunFolder) -> None:
    page = Page(reported_run.report.read_text())
    inside = {link[1:] for link in page.links if link.startswith("#")}
    files = {link for link in page.links if not link.startswith(("#", "data:"))}
    assert inside <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert [link for link in files if not (reported_run.path / link).is_file()] == []
    assert len(files) >= 12


def test_the_page_says_the_incumbent_and_how_many_proposals_came_from_the_model(reported_run: RunFolder) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", reported_run.report.read_text()))
    results = load_results(reported_run.collected)
    done = results.finished()
    best = done[done["budget"] == max(results.budgets)]["loss"].min()
    assert f"{100 * best:.2f}%" in text
    proposed = results.configurations["model_based"].sum()
    assert proposed > 10
    assert f"proposed by the model {proposed} of {len(results.configurations)} configurations" in text


def begun(path: Path, evaluations: int) -> RunFolder:
    """A run that goes on, collected: so many of its evaluations have ended."""
    folder = write_synthetic_run(path, SETTINGS, max_rows=3, evaluations=evaluations)
    collect(folder)
    return folder


def test_a_run_without_a_result_yet_says_what_it_waits_for(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", 0)
    page = make_report(folder.collected, folder).read_text()
    assert "No evaluation has finished yet." in page
    assert "No budget has 20 finished configurations with different results yet." in page


ON_A_LAPTOP = """
import sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "hpbandster", "Pyro4", "submitit", "ConfigSpace"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
from pipeline.analysis.markup import embedded
from pipeline.analysis.report import make_report
from pipeline.run.folder import RunFolder, find_collected

make_report(Path(sys.argv[1]) / "results.h5", RunFolder(Path(sys.argv[1])))
"""


def test_a_report_is_made_from_the_collected_file_alone_without_torch(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", 8)
    alone = tmp_path / "laptop"
    alone.mkdir()
    shutil.copy(folder.collected, alone / "results.h5")
    subprocess.run([sys.executable, "-c", ON_A_LAPTOP, str(alone)], check=True, timeout=120)
    evaluations = pd.read_csv(alone / "tables" / "evaluations.csv")
    assert (evaluations["status"] != "running").sum() == 8
    page = (alone / "report.html").read_text()
    assert "No evaluation has finished yet." not in page
    assert "No budget has 20 finished configurations with different results yet." in page


def test_a_results_file_alone_is_all_that_the_command_needs(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", 0)
    alone = tmp_path / "laptop" / "results.h5"
    alone.parent.mkdir()
    shutil.copy(folder.collected, alone)
    for named in (alone, alone.parent):
        assert find_collected(tmp_path, str(named)).path == alone.parent
    said: list[str] = []
    assert operations.collect(find_collected(tmp_path, str(alone)), said.append) == alone.parent / "report.html"
    assert "as it is" in said[0]
    assert find_collected(tmp_path, "run").path == folder.path


def test_figures_and_tables_for_a_paper_come_from_the_command_line(
    reported_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures(str(reported_run.path), to="single", only=["rank_scatter"], output=tmp_path)
    assert len(list(tmp_path.glob("rank_scatter-*.pdf"))) > 1
    tables(["ten_best"], run=str(reported_run.path), latex=True)
    assert r"\toprule" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"No table nothing\. There are: .*ten_best"):
        tables(["nothing"], run=str(reported_run.path))


def test_runs_of_two_methods_are_compared_by_the_command_with_each_group_in_figure_and_table(tmp_path: Path) -> None:
    for method in ("bohb", "gp"):
        for seed in range(2):
            settings = load_settings("digits", ["search.iterations=2", f"search.method={method}", f"seed={seed}"])
            write_synthetic_run(tmp_path / f"digits-{method}-{seed}", settings, seed=seed, max_rows=4)
    runs = sorted(str(path) for path in tmp_path.glob("digits-*"))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "compare", "--results", str(tmp_path), *runs],
        capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("comparison-*/comparison.html")
    assert str(page) in done.stdout + done.stderr
    groups = pd.read_csv(page.parent / "tables" / "compared_runs.csv").groupby("group")["seed"].agg(list)
    assert sorted(groups.index) == ["BOHB", "Gaussian process"]
    assert all(sorted(seeds) == [0, 1] for seeds in groups)
    assert list(page.parent.glob("figures/*.pdf"))


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_renders_the_page_without_console_errors(reported_run: RunFolder, tmp_path: Path) -> None:
    # Whatever the page would say on its console, or fail to load, Chromium logs.
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *QUIET, "--enable-logging=stderr", "--v=0",
            f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}",
            "--window-size=1200,2000", reported_run.report.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "ERR_" in line]
    assert console == []
    pixels = imread(tmp_path / "page.png")
    assert pixels.shape[:2] == (2000, 1200)
    # Text and figures, not an empty page: a tenth of the rows has ink in the main column.
    assert (pixels[:, 300:, :3].min(axis=(1, 2)) < 0.5).mean() > 0.1
