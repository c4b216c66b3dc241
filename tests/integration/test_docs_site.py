"""The documentation as a site: built without a warning, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.references import anchor
from pipeline.settings.documentation import setting_names
from pipeline.storage import schema

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        self.places |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "docs"]
    done = subprocess.run([*build, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"`make docs` says:\n{done.stderr}"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_the_documentation_is_in_the_site(pages: dict[Path, Page], site: Path) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").glob("*.md")}
    assert written <= {path.relative_to(site) for path in pages}


def test_every_internal_link_leads_to_a_page_and_a_place_in_it(pages: dict[Path, Page], site: Path) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            # Furo's links to the top of a page have a name that every browser knows.
            if not target.is_file() or (
                place not in ("", "top") and target in pages and place not in pages[target].places
            ):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    assert all(page.loaded for page in pages.values())
    foreign = [url for page in pages.values() for url in page.loaded if urlsplit(url).scheme or url.startswith("//")]
    assert foreign == []
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", text), style.relative_to(site)


def test_the_search_works_from_files(pages: dict[Path, Page], site: Path) -> None:
    # A page of ours with one of these names would be overwritten.
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert not written & {"search", "genindex", "modindex", "py-modindex"}
    # As scripts: a browser reads no other file next to a page that it has from a disk.
    assert any(url.startswith("searchindex.js") for url in pages[site / "search.html"].loaded)
    assert '"preempt' in (site / "searchindex.js").read_text(encoding="utf-8")


def test_every_setting_has_its_place_in_the_reference(pages: dict[Path, Page], site: Path) -> None:
    names = {name for name in setting_names() if not name.endswith(".frozen")}
    assert {anchor(name) for name in names} <= pages[site / "settings.html"].places


def test_every_column_of_the_results_is_in_the_reference(site: Path) -> None:
    text = (site / "files.html").read_text(encoding="utf-8")
    for column in (*schema.EVALUATIONS, *schema.ATTEMPTS, *schema.LEARNING_CURVES):
        assert f">{column.name}<" in text, column.name


def test_a_signature_in_the_reference_reads_as_a_person_would_write_it(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "api.html").read_text(encoding="utf-8"))
    assert "next_evaluation(may_draw: bool = True)" in text
    assert not re.findall(r"ForwardRef|&lt;factory&gt;|~[a-z]\w*\.", text)
