"""Every command of the documentation is one that the program, make or a module of this project takes."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import app
from pipeline.errors import TandemError
from pipeline.settings import load_settings, preset_names
from tests.unit.docs.blocks import ROOT, Block, Command, blocks, commands, inline_commands

TANDEM = {"tandem", ".venv/bin/tandem"}
# What people type besides; nobody checks their arguments here.
OTHERS = {
    ".", "apt", "apt-get", "bash", "cd", "chmod", "conda", "cp", "du", "export", "git", "less", "ls", "mkdir", "module",
    "mv", "nice", "pip", "pre-commit", "rm", "rsync", "salloc", "sbatch", "scancel", "scontrol", "scp", "source",
    "squeue", "ssh", "tar", "tmux", "xdg-open",
}  # fmt: skip
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
GROUP: Any = typer.main.get_command(app)
ALL = list(commands())


def at(item: Command | Block) -> str:
    return item.place


def without_assignments(words: tuple[str, ...]) -> list[str]:
    """The command behind variables that are set for it (`TANDEM_FUZZ=100 python ...`), and behind `nice -n 10`."""
    left = list(words)
    while left and ASSIGNMENT.match(left[0]):
        left.pop(0)
    return left[3:] if left[:2] == ["nice", "-n"] else left


def check_tandem(arguments: list[str], where: str) -> None:
    """Parse as the program does, and load the settings that it would load."""
    if arguments[0].startswith("-"):
        known = {option for parameter in GROUP.get_params(GROUP.make_context("tandem", [], resilient_parsing=True))
                 for option in parameter.opts}  # fmt: skip
        assert arguments[0] in known | {"--help"}, where
        return
    assert arguments[0] in GROUP.commands, f"{where}: there is no such command"
    if "--help" in arguments:
        return
    try:
        given = GROUP.commands[arguments[0]].make_context(arguments[0], arguments[1:]).params
    except Exception as error:  # of the parser, which comes with typer and has no public name
        pytest.fail(f"{where}: {error}")
    check_settings(given.get("preset"), given.get("overrides"), where)


def check_settings(preset: str | None, overrides: list[str] | None, where: str) -> None:
    """Load a preset with overrides; a reader's own file, which is not here, is stood in for by a preset."""
    is_known = preset in preset_names() or (preset is not None and (ROOT / preset).is_file())
    try:
        load_settings(str(preset) if is_known else "digits", overrides or ())
    except TandemError as error:
        pytest.fail(f"{where}: {error}")


def check_make(arguments: list[str], where: str) -> None:
    """Let make say what it would do, and check the command of `tandem` among it."""
    arguments = [re.sub(r"=\.\.\.$", "=PLACEHOLDER", argument) for argument in arguments]
    done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: {done.stderr}"
    for line in done.stdout.splitlines():
        if line.startswith(".venv/bin/tandem "):
            # The shell's own quoting, as make writes it.
            words = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
            check_tandem(words.stdout.split("\0")[1:-1], where)


def check_module(module: str, arguments: list[str], where: str) -> None:
    """The module is there, and names every option in its source."""
    spec = find_spec(module)
    assert spec is not None, f"{where}: there is no module {module}"
    folder = Path(str(spec.origin)).parent
    if not folder.is_relative_to(ROOT) or ".venv" in folder.parts:
        return
    text = "\n".join(file.read_text(encoding="utf-8") for file in folder.rglob("*.py"))
    for option in (a for a in arguments if a.startswith("--")):
        assert f'"{option}"' in text, f"{where}: {module} has no {option}"


@pytest.mark.parametrize("command", ALL, ids=at)
def test_every_command_can_be_typed(command: Command) -> None:
    words = without_assignments(command.words)
    if not words or words[0] in OTHERS:
        return
    if words[0] in TANDEM and len(words) > 1:
        check_tandem(words[1:], str(command))
    elif words[0] == "make":
        check_make(words[1:], str(command))
    elif words[0].startswith("python") and words[1:2] == ["-m"]:
        check_module(words[2], words[3:], str(command))
    else:
        assert words == ["tandem"], (
            f"{command}\nis no command that is known here. What a program prints stands in a block that begins with "
            "```text; a further program is added to OTHERS."
        )


@pytest.mark.parametrize("command", list(inline_commands()), ids=at)
def test_every_command_in_the_text_exists(command: Command) -> None:
    program, name, *arguments = command.words
    if program == "make":
        assert name in TARGETS, command
        return
    assert name in GROUP.commands, command
    context = GROUP.commands[name].make_context(name, [], resilient_parsing=True)
    known = {option for parameter in GROUP.commands[name].get_params(context) for option in parameter.opts} | {"--help"}
    assert {argument for argument in arguments if re.match(r"--?[a-z]", argument)} <= known, command


@pytest.mark.parametrize("block", [b for b in blocks() if b.kind == "settings"], ids=at)
def test_every_piece_of_settings_is_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(block.text, encoding="utf-8")
    try:
        load_settings(str(file), ())
    except TandemError as error:
        pytest.fail(f"{block.place}: {error}")


# tests/unit/export calls what the command calls.
CALLED_BY_UNIT_TESTS = {"export"}


def test_every_command_of_the_pages_is_run_by_some_test_of_real_processes() -> None:
    folders = (ROOT / "tests" / "integration", ROOT / "tests" / "slurm")
    text = "\n".join(file.read_text(encoding="utf-8") for folder in folders for file in folder.glob("*.py"))
    typed = {command.words[1] for command in ALL if command.words[0] in TANDEM and len(command.words) > 1}
    typed -= CALLED_BY_UNIT_TESTS
    assert {name for name in typed if name in GROUP.commands and f'"{name}"' not in text} == set()


def test_the_documentation_has_commands_settings_and_python() -> None:
    assert len(ALL) > 50
    assert {block.kind for block in blocks()} >= {"python", "settings", "shell"}
