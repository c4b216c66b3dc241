"""The code in the documentation: every block and every inline command, with the place where it stands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from pipeline.settings import Settings

ROOT = Path(__file__).parents[3]
PAGES = (
    *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md",
)  # fmt: skip
# What joins two commands on one line.
_JOINTS = {"|", "||", "&&", ";", ">", ">>", "&"}
_INNER = re.compile(r"\$\(([^()]*)\)")
_PLACEHOLDER = re.compile(r"<[\w .]+>")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        kind: "python", "settings", "shell" or "text": what is printed, not typed.
    """

    page: Path
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command with its arguments."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


@cache
def _tokens(page: Path) -> list[Any]:
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(page.read_text(encoding="utf-8"))


@cache
def blocks() -> tuple[Block, ...]:
    """Every block of code of every page, in order."""
    return tuple(
        Block(page, token.map[0] + 1, _kind(token.info.strip(), token.content), token.content)
        for page in PAGES
        for token in _tokens(page)
        if token.type in ("fence", "code_block") and not token.info.startswith("{")
    )


def _kind(label: str, text: str) -> str:
    if label in ("python", "text"):
        return label
    if label == "yaml" or (not label and _is_settings(text)):
        return "settings"
    if not label and re.search(r"^(from|import|def) ", text, re.MULTILINE) and _is_python(text):
        return "python"
    return "shell" if label in ("", "bash", "console") else "text"


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _is_settings(text: str) -> bool:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(parsed, dict) and set(parsed) <= set(Settings.model_fields)


def commands() -> Iterator[Command]:
    """Every command of the blocks that are typed into a shell."""
    for block in blocks():
        if block.kind == "shell":
            lines = block.text.replace("\\\n", " ").splitlines()
            for number, line in enumerate(lines, block.line):
                yield from _commands_in(line, f"{block.page.relative_to(ROOT)}:{number}")


def _commands_in(line: str, place: str) -> Iterator[Command]:
    for inner in _INNER.findall(line):
        yield from _commands_in(inner, place)
    line = _PLACEHOLDER.sub("PLACEHOLDER", _INNER.sub("PLACEHOLDER", line))
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    words: list[str] = []
    is_file = False
    for word in [*lexer, ";"]:
        if word not in _JOINTS:
            words += [] if is_file else [word]
            is_file = False
            continue
        if words:
            yield Command(place, tuple(words))
        words, is_file = [], word in (">", ">>")


def inline_commands() -> Iterator[Command]:
    """Commands of `tandem` and `make` in the running text, whose arguments may be words that stand for something."""
    for page in PAGES:
        for token in _tokens(page):
            for child in token.children or ():
                if child.type == "code_inline" and re.match(r"(tandem|make) [a-z]", child.content):
                    place = f"{page.relative_to(ROOT)}:{token.map[0] + 1}"
                    text = _INNER.sub("PLACEHOLDER", child.content).replace("\n", " ")
                    yield Command(place, tuple(shlex.split(text.split("|")[0])))
