"""What a process is given by its machine: clocks, threads, ways to wait, and chance.

The master and the worker take theirs from outside. `SYSTEM` is the machine's; tests/simulation gives many of them
virtual ones in one process.
"""

from __future__ import annotations

import queue
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol


class Clock(Protocol):
    """The two clocks of a machine, in s."""

    def monotonic(self) -> float:
        """The clock that only goes forward: for how long something takes."""

    def time(self) -> float:
        """Since 1970 (UTC); differs between machines, and may be set."""


class Thread(Protocol):
    """A thread that has not begun."""

    def start(self) -> None:
        """Begin."""

    def join(self) -> None:
        """Wait until it has ended."""


class Event(Protocol):
    """A flag that others wait for."""

    def set(self) -> None:
        """Raise the flag."""

    def clear(self) -> None:
        """Take it down."""

    def is_set(self) -> bool:
        """Whether it is raised."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is raised; whether it is."""


class Condition(Protocol):
    """A lock with a bell."""

    def __enter__(self) -> Any:
        """Take the lock."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock and wait for the bell."""

    def notify_all(self) -> None:
        """Ring it."""


class Queue(Protocol):
    """Passes items from any thread to another; `get` raises queue.Empty when the time is up."""

    def put(self, item: Any) -> None:
        """Add an item."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item, waiting for it."""

    def get_nowait(self) -> Any:
        """Take the oldest item; raises queue.Empty where there is none."""

    def empty(self) -> bool:
        """Whether there is none."""


class Reply(Protocol):
    """An answer that one thread waits for and another gives."""

    def done(self) -> bool:
        """Whether it has been given."""

    def set_result(self, result: Any) -> None:
        """Give it."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it; raises TimeoutError when the time is up."""


class Runtime(Clock, Protocol):
    """All that a process is given by its machine, besides files and the network."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """A thread that ends with the process."""

    def event(self) -> Event:
        """A flag."""

    def condition(self) -> Condition:
        """A lock with a bell."""

    def queue(self) -> Queue:
        """A queue without a limit."""

    def reply(self) -> Reply:
        """An answer to wait for."""

    def uniform(self, low: float, high: float) -> float:
        """A random number between the two."""

    def token(self) -> str:
        """A random name that nobody else has."""


class SystemRuntime:
    """The machine's own."""

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def time(self) -> float:
        """See `Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `Runtime`."""
        time.sleep(seconds)

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """See `Runtime`."""
        return threading.Thread(target=target, name=name, daemon=True)

    def event(self) -> Event:
        """See `Runtime`."""
        return threading.Event()

    def condition(self) -> Condition:
        """See `Runtime`."""
        return threading.Condition()

    def queue(self) -> Queue:
        """See `Runtime`."""
        return queue.SimpleQueue()

    def reply(self) -> Reply:
        """See `Runtime`."""
        return Future()

    def uniform(self, low: float, high: float) -> float:
        """See `Runtime`."""
        return random.uniform(low, high)

    def token(self) -> str:
        """See `Runtime`."""
        return uuid.uuid4().hex


SYSTEM: Runtime = SystemRuntime()
