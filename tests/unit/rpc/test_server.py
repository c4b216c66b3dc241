"""The server that workers connect to, where threads or files run short."""

from __future__ import annotations

import os
import queue
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import Pyro4
import pytest

from pipeline.master.events import ThreadDied
from pipeline.master.threads import guarded
from pipeline.rpc.client import CALL_ERRORS
from pipeline.rpc.limits import RESERVED_FILES, raise_limits
from pipeline.rpc.server import RpcServer, open_server
from pipeline.rpc.tls import ensure_authority, issue_certificate, use_tls

WAIT_S = 30.0


class Thing:
    @Pyro4.expose  # type: ignore[untyped-decorator]
    def hello(self) -> str:
        return "hello"


@pytest.fixture
def inbox() -> queue.SimpleQueue[ThreadDied]:
    return queue.SimpleQueue()


@pytest.fixture
def server(tmp_path: Path, inbox: queue.SimpleQueue[ThreadDied]) -> Iterator[RpcServer]:
    ensure_authority(tmp_path / "tls", "digits-0a1b")
    use_tls(issue_certificate(tmp_path / "tls", "master", ["127.0.0.1"]))
    made = open_server("127.0.0.1", None)
    made.register(Thing(), "thing")
    made.start(lambda target: guarded(inbox, "rpc", target))
    yield made
    made.shutdown()


def call(server: RpcServer, timeout_s: float = WAIT_S) -> str:
    with Pyro4.Proxy(server.uriFor("thing")) as proxy:
        proxy._pyroTimeout = timeout_s
        return str(proxy.hello())


def test_a_thread_that_cannot_start_costs_one_connection_and_is_told(
    server: RpcServer, inbox: queue.SimpleQueue[ThreadDied], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, has_failed = threading.Thread.start, threading.Event()

    def start(thread: threading.Thread) -> None:
        if thread.name == "rpc connection" and not has_failed.is_set():
            has_failed.set()
            raise RuntimeError("can't start new thread")  # what the interpreter makes of `ulimit -u`
        real(thread)

    assert call(server) == "hello"
    assert server.problem == ""
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(CALL_ERRORS):
        call(server)
    assert call(server) == "hello"
    assert "no thread can be had for another connection (can't start new thread)" in server.problem
    assert inbox.empty()


def test_a_server_that_ends_unasked_reaches_the_loop_and_one_that_is_shut_down_does_not(
    server: RpcServer, inbox: queue.SimpleQueue[ThreadDied], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    other = open_server("127.0.0.1", None)
    other.start(lambda target: lambda: (target(), ended.set())[0])
    other.shutdown()
    assert ended.wait(WAIT_S)

    def process(job: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(server.transportServer.pool, "process", process)
    with pytest.raises(CALL_ERRORS):
        call(server, timeout_s=1)
    event = inbox.get(timeout=WAIT_S)
    assert event.name == "rpc"
    assert "MemoryError" in event.traceback


def open_files() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


@pytest.fixture
def few_files() -> Iterator[int]:
    """The limit of open files, lowered to what is in use and some more than are reserved."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(4 * RESERVED_FILES, max(open_files()) + RESERVED_FILES + 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_leave_files_to_the_process(server: RpcServer, few_files: int) -> None:
    assert server.lacks() == ""
    clients: list[socket.socket] = []
    try:
        deadline = time.monotonic() + WAIT_S
        # Each takes two files, since both of its ends are in this process.
        while not server.problem and len(clients) < few_files and time.monotonic() < deadline:
            clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            time.sleep(0.005)
        free = few_files - len(open_files())
        assert f"nearly all of {few_files} open files are in use" in server.problem
        assert "nearly all of" in server.lacks()
        assert RESERVED_FILES - 20 < free <= RESERVED_FILES + 20
    finally:
        for client in clients:
            client.close()
    while server.lacks():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert call(server) == "hello"


def test_a_connection_that_cannot_even_be_taken_waits_until_files_are_free(
    server: RpcServer, inbox: queue.SimpleQueue[ThreadDied], few_files: int, caplog: pytest.LogCaptureFixture
) -> None:
    taken = []
    with socket.socket() as client:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        client.connect(("127.0.0.1", server.port))
        deadline = time.monotonic() + WAIT_S
        while not server.problem and time.monotonic() < deadline:
            time.sleep(0.05)
        problem, lines = server.problem, len(caplog.records)
        for descriptor in taken:
            os.close(descriptor)
    assert "Too many open files" in problem
    assert lines < 10
    assert call(server) == "hello"
    assert inbox.empty()


def test_the_limits_of_files_and_threads_are_raised_as_far_as_they_may_be() -> None:
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
    before = [resource.getrlimit(kind) for kind in kinds]
    try:
        for kind, (soft, hard) in zip(kinds, before, strict=True):
            resource.setrlimit(kind, (min(n for n in (soft, hard, 4000) if n >= 0), hard))
        raise_limits()
        for kind, (_, hard) in zip(kinds, before, strict=True):
            soft = resource.getrlimit(kind)[0]
            assert soft == hard or (kind == resource.RLIMIT_NOFILE and soft == 65536)
    finally:
        for kind, limits in zip(kinds, before, strict=True):
            resource.setrlimit(kind, limits)
