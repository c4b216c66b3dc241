"""What a person does with a run, without processes: each works, or is one line that says which file."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from hypothesis import event
from rich.console import Console

from pipeline.analysis.axes import read_axes
from pipeline.analysis.console import summary_text
from pipeline.analysis.summary import cards
from pipeline.errors import TandemError
from pipeline.master.failures import FailurePolicy
from pipeline.master.resume import restore
from pipeline.rpc.master_address import read_master_address
from pipeline.rpc.undelivered import read_undelivered
from pipeline.run.creation import read_settings
from pipeline.run.folder import RunFolder, find_run
from pipeline.run.history import read_history, read_journal
from pipeline.run.status import read_status
from pipeline.run.status_view import progress_line, status_lines, status_table
from pipeline.search.replay import rebuild
from pipeline.search.verify import verify
from pipeline.storage.collect import collect
from pipeline.storage.results import load_results
from pipeline.storage.tables import evaluation_table, incumbent_table

FORK = get_context("fork")
# A damaged file is read within milliseconds; on a busy machine within seconds.
LIBRARY_S = 15.0


def show_status(folder: RunFolder) -> None:
    """`tandem status`."""
    found = find_run(folder.path.parent, folder.run_id)
    status = read_status(found, wait_s=0)
    lines = status_lines(found, status)
    "\n".join(lines).encode()
    Console(file=io.StringIO(), width=100).print(status_table(found, status))
    if status is not None:
        progress_line(status)


def resume(folder: RunFolder) -> None:
    """What a master reads when it starts, and a worker when it joins."""
    settings = read_settings(folder)
    search = rebuild(settings, read_history(folder, wait_s=0))
    while search.next_evaluation(may_draw=False) is not None:
        pass
    search.next_evaluation()
    restore(read_journal(folder, wait_s=0), 1.0, FailurePolicy(3, 3))
    read_undelivered(folder)
    read_master_address(folder)


def verify_run(folder: RunFolder) -> None:
    """`tandem verify`."""
    "\n".join(verify(folder)).encode()


def collect_run(folder: RunFolder) -> None:
    """`tandem collect-results`, without its figures."""
    show_results(collect(folder))


def show_results(path: Path) -> None:
    """What reads results.h5."""
    results = load_results(path)
    summary_text(path).encode()
    cards(results)
    read_axes(results.configspace)
    evaluation_table(results)
    incumbent_table(results)


def complaint(command: Callable[..., object], *arguments: object) -> str:
    """What a command says against its input, in one line; "" when it works. Whatever else it raises is a failure."""
    try:
        command(*arguments)
    except TandemError as error:
        text = str(error)
        assert "\n" not in text, text
        assert 10 < len(text) < 1500, text
        return text
    return ""


def complaint_apart(command: Callable[..., object], *arguments: object) -> str:
    """As `complaint`, in a process of its own: some damage lets the HDF5 library crash, or go on for ever.

    Neither is the program's; hypothesis shows how often they happen (`--hypothesis-show-statistics`).
    """
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_tell, args=(sender, command, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(LIBRARY_S):
            event("the HDF5 library goes on for ever")
            return ""
        is_well, text = receiver.recv()
    except EOFError:
        event("the HDF5 library has crashed")
        return ""
    finally:
        process.kill()
        process.join()
        receiver.close()
    assert is_well, text
    return str(text)


def _tell(sender: Connection, command: Callable[..., object], arguments: Sequence[object]) -> None:
    try:
        sender.send((True, complaint(command, *arguments)))
    except BaseException:
        sender.send((False, traceback.format_exc()))


def check_commands(folder: RunFolder, damaged: Path, commands: Sequence[Callable[[RunFolder], None]]) -> None:
    """Commands cope with a run whose file is damaged, and change none of its files."""
    before = _content(folder)
    for command in commands:
        text = complaint(command, folder)
        assert not text or damaged.stem in text, text
    assert _content(folder) == before


def _content(folder: RunFolder) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file() and p != folder.collected}
