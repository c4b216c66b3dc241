"""A virtual world: hosts, processes and their threads on one virtual clock, in one real thread, driven by one seed.

Threads are greenlets. One runs until it waits (sleeps, waits for a queue, calls over the network, or meets a disk that
stalls); then the next one that is due runs. So a seed fixes the whole order of events, and a virtual hour costs only
what the program does in it. Nothing here may go through a set of objects: their order is that of their addresses.
"""

from __future__ import annotations

import hashlib
import heapq
import queue
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

EPOCH = 1.7e9
# Threads that become ready at the same moment go on in any order.
JITTER_S = 0.0005


class Killed(BaseException):
    """The process of this thread is dead: unwinds the thread, and lets it touch nothing more."""


class Host:
    """A machine: its clocks, whether it is up, and how much memory its GPU has."""

    def __init__(self, world: World, name: str, memory_gb: float = 16.0) -> None:
        self.world = world
        self.name = name
        self.address = name
        self.memory_gb = memory_gb
        self.is_up = True
        self.is_broken = False  # its installation: every evaluation fails here
        self.loses_gpus = False
        self.clock_offset_s = world.random.uniform(-300, 300)
        self.boot_s = world.random.uniform(0, 1e6)
        self.next_port = 20000
        self.slots = 2
        world.hosts.append(self)


class Process:
    """A process of a host: its threads, and whether it is frozen or dead.

    Attributes:
        is_measured: whether `cpu_s` counts what it costs; asking for that costs more than most turns of a worker.
    """

    def __init__(self, world: World, host: Host, name: str) -> None:
        self.world = world
        self.host = host
        self.name = name
        self.pid = world.next_pid()
        self.is_dead = False
        self.frozen = False
        self.deferred: list[Waiter] = []
        self.threads: dict[GreenThread, None] = {}
        self.runtime = VirtualRuntime(self)
        self.on_death: list[Callable[[], None]] = []
        self.is_measured = False
        self.cpu_s = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        world.processes.append(self)

    def start(self, main: Callable[[], Any]) -> None:
        """Run a program; the process ends with it."""

        def run() -> None:
            try:
                self.result = main()
            except Killed:
                raise
            except BaseException as error:
                self.error = error
            self.kill()

        self.world.spawn(self, run, "main")

    def kill(self) -> None:
        """SIGKILL, or the end of the main thread."""
        if self.is_dead:
            return
        self.is_dead = True
        self.world.note(f"{self.name} is dead")
        for act in self.on_death:
            act()
        current = getcurrent()
        for thread in list(self.threads):
            if thread is not current and not thread.dead:
                self.world.at(self.world.now, lambda t=thread: t.unwind())
        self.world.processes.remove(self)

    def freeze(self) -> None:
        """SIGSTOP: nothing of it runs until `thaw`."""
        self.frozen = True
        self.world.note(f"{self.name} stands still")

    def thaw(self) -> None:
        """SIGCONT."""
        if not self.frozen:
            return
        self.frozen = False
        self.world.note(f"{self.name} goes on")
        for waiter in self.deferred:
            self.world.at(self.world.now, waiter.switch)
        self.deferred.clear()


class GreenThread(greenlet):  # type: ignore[misc]
    """A thread of a process."""

    def __init__(self, process: Process, target: Callable[[], Any], name: str) -> None:
        super().__init__(self._run, process.world.hub)
        self.process = process
        self.target = target
        self.name = name
        self.ended = VirtualEvent(process.world)

    def _run(self) -> None:
        try:
            self.target()
        except Killed:
            pass
        except BaseException as error:
            self.process.world.fail(f"thread {self.name} of {self.process.name} died: {error!r}", error)
        finally:
            self.process.threads.pop(self, None)
            if not self.process.is_dead:
                self.ended.set()

    def unwind(self) -> None:
        """Throw it off wherever it waits."""
        if not self.dead:
            if self:
                self.throw(Killed)
            else:
                self.process.threads.pop(self, None)


class Waiter:
    """A thread that waits, once."""

    def __init__(self, thread: GreenThread) -> None:
        self.thread = thread
        self.is_over = False
        self.was_woken = False

    def wake(self) -> None:
        """What it waits for has come."""
        if not self.is_over:
            self.is_over = self.was_woken = True
            world = self.thread.process.world
            world.at(world.now + JITTER_S * world.random.random(), self.switch)

    def time_out(self) -> None:
        """Its time is up."""
        if not self.is_over:
            self.is_over = True
            self.switch()

    def switch(self) -> None:
        """Let it go on, unless its process cannot."""
        process = self.thread.process
        if process.is_dead:
            return
        if process.frozen:
            process.deferred.append(self)
            return
        if not process.is_measured:
            self.thread.switch()
            return
        began = time.process_time()
        self.thread.switch()
        process.cpu_s += time.process_time() - began


class World:
    """Time, chance, and everything that is to happen."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.hub = getcurrent()
        self.hosts: list[Host] = []
        self.processes: list[Process] = []
        self.failures: list[str] = []
        self.error: BaseException | None = None
        self.bites: dict[str, int] = {}
        self._trace = trace
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._processes_so_far = 0

    def digest(self) -> str:
        """When it was over, how much had happened, and how much of it by chance."""
        chance = hashlib.sha256(repr(self.random.getstate()).encode()).hexdigest()
        return f"{self.now:.9f}-{self._sequence}-{chance[:16]}"

    def next_pid(self) -> int:
        """The number of another process: the same in every run of a seed, whatever was simulated before it."""
        self._processes_so_far += 1
        return 1000 + self._processes_so_far

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self._trace is not None:
            self._trace(f"{self.now:10.3f} {text}")

    def bite(self, kind: str) -> None:
        """A fault of a kind has had an effect."""
        self.bites[kind] = self.bites.get(kind, 0) + 1
        self.note(f"FAULT {kind}")

    def fail(self, problem: str, error: BaseException | None = None) -> None:
        """An invariant does not hold."""
        self.note(f"FAILURE {problem}")
        self.failures.append(f"at {self.now:.1f} s: {problem}")
        self.error = self.error or error

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Let something happen at a time."""
        self._sequence += 1
        heapq.heappush(self._due, (when, self._sequence, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen in a while."""
        self.at(self.now + seconds, act)

    def spawn(self, process: Process, target: Callable[[], Any], name: str) -> GreenThread:
        """Start a thread of a process."""
        thread = GreenThread(process, target, name)
        process.threads[thread] = None
        waiter = Waiter(thread)
        waiter.wake()
        return thread

    def suspend(self, seconds: float | None, waiters: list[Waiter] | None = None) -> bool:
        """Let the present thread wait; whether it was woken before its time was up."""
        thread = getcurrent()
        assert isinstance(thread, GreenThread), "only threads of the world can wait"
        if thread.process.is_dead:
            raise Killed
        waiter = Waiter(thread)
        if seconds is not None:
            self.at(self.now + max(0.0, seconds), waiter.time_out)
        if waiters is not None:
            waiters.append(waiter)
        self.hub.switch()
        if thread.process.is_dead:
            raise Killed
        return waiter.was_woken

    def run(self, until: Callable[[], bool], deadline_s: float) -> None:
        """Go on until something holds, something has failed, or time is up."""
        while self._due and not until() and not self.failures:
            when, _, act = heapq.heappop(self._due)
            if when > deadline_s:
                return
            self.now = max(self.now, when)
            act()

    def close(self) -> None:
        """Unwind every thread that is left."""
        for process in list(self.processes):
            process.is_dead = True
            for thread in list(process.threads):
                thread.unwind()
        self._due.clear()


def current_process() -> Process | None:
    """The process of the present thread; None outside the world."""
    thread = getcurrent()
    return thread.process if isinstance(thread, GreenThread) else None


class VirtualEvent:
    """`pipeline.runtime.Event`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiters: list[Waiter] = []

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._world.suspend(timeout, self._waiters)
        return self._is_set


class VirtualCondition:
    """`pipeline.runtime.Condition`; no lock is needed where one thread runs at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiters: list[Waiter] = []

    def __enter__(self) -> VirtualCondition:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        return self._world.suspend(timeout, self._waiters)

    def notify_all(self) -> None:
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()


class VirtualQueue:
    """`pipeline.runtime.Queue`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._items: deque[Any] = deque()
        self._waiters: list[Waiter] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        deadline = None if timeout is None else self._world.now + timeout
        while not self._items:
            left = None if deadline is None else deadline - self._world.now
            if not block or (left is not None and left <= 0):
                raise queue.Empty
            self._world.suspend(left, self._waiters)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items


class VirtualReply:
    """`pipeline.runtime.Reply`."""

    def __init__(self, world: World) -> None:
        self._given = VirtualEvent(world)
        self._result: Any = None

    def done(self) -> bool:
        return self._given.is_set()

    def set_result(self, result: Any) -> None:
        self._result = result
        self._given.set()

    def result(self, timeout: float | None = None) -> Any:
        if not self._given.wait(timeout):
            raise TimeoutError
        return self._result


class VirtualThread:
    """`pipeline.runtime.Thread`."""

    def __init__(self, process: Process, target: Callable[[], None], name: str) -> None:
        self._process, self._target, self._name = process, target, name
        self._thread: GreenThread | None = None

    def start(self) -> None:
        self._thread = self._process.world.spawn(self._process, self._target, self._name)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.ended.wait()


class VirtualRuntime:
    """`pipeline.runtime.Runtime` of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    def monotonic(self) -> float:
        return self._world.now + self._process.host.boot_s

    def time(self) -> float:
        return EPOCH + self._world.now + self._process.host.clock_offset_s

    def sleep(self, seconds: float) -> None:
        self._world.suspend(seconds)

    def thread(self, target: Callable[[], None], name: str) -> VirtualThread:
        return VirtualThread(self._process, target, name)

    def event(self) -> VirtualEvent:
        return VirtualEvent(self._world)

    def condition(self) -> VirtualCondition:
        return VirtualCondition(self._world)

    def queue(self) -> VirtualQueue:
        return VirtualQueue(self._world)

    def reply(self) -> VirtualReply:
        return VirtualReply(self._world)

    def uniform(self, low: float, high: float) -> float:
        return self._world.random.uniform(low, high)

    def token(self) -> str:
        return f"{self._world.random.getrandbits(64):016x}"
