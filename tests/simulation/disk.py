"""A virtual disk under the program's own file code: the calls of the operating system, in memory, with faults.

Inside `Disk.mounted()`, `os` and `io` serve every path below `ROOT` from memory. So what is tested is the program's
writing itself: its order, its fsyncs and what it does about errors. Between any two calls a process can die, the disk
can be full, fail, or stall.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pipeline.files
from tests.simulation.world import EPOCH, GreenThread, Host, Killed, Process, World, current_process, getcurrent

ROOT = "/simulated"
PROCESS = re.compile(r"/proc/(\d+)")
FIRST_DESCRIPTOR = 1_000_000


class Content:
    """What is in a file."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0
        self.modified = 0.0
        self.host: Host | None = None  # whose process wrote it last


class OpenFile:
    """A file that is open."""

    def __init__(self, disk: Disk, path: str, content: Content, mode: str) -> None:
        self.disk, self.path, self.content, self.mode = disk, path, content, mode
        self.descriptor = disk.describe(self)
        self.position = len(content.data) if "a" in mode else 0

    def fileno(self) -> int:
        return self.descriptor

    def read(self, size: int = -1) -> Any:
        end = len(self.content.data) if size < 0 else self.position + size
        data = bytes(self.content.data[self.position : end])
        self.position += len(data)
        return data if "b" in self.mode else data.decode("utf-8")

    def write(self, data: Any) -> int:
        raw = bytes(data) if "b" in self.mode else data.encode("utf-8")
        try:
            self.disk.touch("write", self.path, len(raw))
        except Killed:
            if not self.disk.was_dead_before:  # it dies in the middle of it
                self._put(raw[: self.disk.world.random.randrange(len(raw) + 1)])
            raise
        self._put(raw)
        return len(data)

    def _put(self, raw: bytes) -> None:
        if "a" in self.mode:
            self.position = len(self.content.data)
        self.content.data[self.position : self.position + len(raw)] = raw
        self.position += len(raw)
        self.content.modified = self.disk.world.now
        process = current_process()
        self.content.host = None if process is None else process.host
        if self.path in self.disk.recorded:
            self.disk.appended.append((self.path, len(self.content.data)))

    def truncate(self, size: int) -> int:
        self.disk.touch("truncate", self.path)
        del self.content.data[size:]
        self.content.synced = min(self.content.synced, size)
        return size

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.disk.open_files.pop(self.descriptor, None)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read().splitlines(keepends=True))


class Entry:
    """An entry of a folder (`os.DirEntry`)."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self.path, self.name = disk, path, path.rsplit("/", 1)[1]

    def __fspath__(self) -> str:
        return self.path

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self.path in self._disk.folders

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self.path in self._disk.files

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._disk.stat(self.path)


class Entries(list[Entry]):
    """What `os.scandir` returns."""

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def close(self) -> None:
        return None


class Files(dict[str, Content]):
    """Files by path, and what is in each folder: a search looks into its folders some hundred times."""

    def __init__(self) -> None:
        super().__init__()
        self.in_folder: dict[str, set[str]] = defaultdict(set)

    def __setitem__(self, path: str, content: Content) -> None:
        super().__setitem__(path, content)
        self.in_folder[path.rpartition("/")[0]].add(path)

    def setdefault(self, path: str, content: Content) -> Content:  # type: ignore[override]
        if path not in self:
            self[path] = content
        return self[path]

    def __delitem__(self, path: str) -> None:
        super().__delitem__(path)
        self.in_folder[path.rpartition("/")[0]].discard(path)

    def take(self, path: str) -> Content | None:
        """Take a file out; None: it is not there."""
        content = self.get(path)
        if content is not None:
            del self[path]
        return content


class Disk:
    """All files, and what goes wrong with them.

    Attributes:
        is_full: whatever grows is refused.
        failing: chance that a call fails with EIO.
        stalling: chance that a call takes seconds.
        fatal: by process, after how many further calls that change something it dies.
        observe: called before every change with the process, the operation and the path.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.files = Files()
        self.folders: set[str] = {ROOT}
        self.open_files: dict[int, OpenFile] = {}
        self.is_full = False
        self.failing = 0.0
        self.stalling = 0.0
        self.fatal: dict[Process, int] = {}
        self.was_dead_before = False
        self.observe: Callable[[Process, str, str], None] = lambda process, operation, path: None
        # Of these files: how long each was after each write, in the order of the writes.
        self.recorded: set[str] = set()
        self.appended: list[tuple[str, int]] = []
        self._next = FIRST_DESCRIPTOR

    # Faults ----------------------------------------------------------------------------------------------------------
    def touch(self, operation: str, path: str, grows: int = 0) -> None:
        """Something is about to change."""
        process = current_process()
        if process is None:
            return
        self.was_dead_before = process.is_dead
        self.observe(process, operation, path)
        if process.is_dead:
            raise Killed
        if process in self.fatal:
            self.fatal[process] -= 1
            if self.fatal[process] < 0:
                del self.fatal[process]
                self.world.bite("death between file operations")
                self.world.note(f"before {operation} of {path}")
                process.kill()
                raise Killed
        if self.is_full and (grows or operation == "create"):
            self.world.bite("disk full")
            raise OSError(errno.ENOSPC, "No space left on device", path)
        self._perhaps_fail(path)

    def _perhaps_fail(self, path: str) -> None:
        if self.failing and self.world.random.random() < self.failing:
            self.world.bite("disk answers EIO")
            raise OSError(errno.EIO, "Input/output error", path)
        if self.stalling and self.world.random.random() < self.stalling:
            self.world.bite("disk stalls")
            self.world.suspend(self.world.random.uniform(0.5, 12.0))

    def look(self, path: str) -> None:
        """Something is about to be read."""
        process = current_process()
        if process is not None and process.is_dead:
            raise Killed
        if process is not None and (self.failing or self.stalling):
            self._perhaps_fail(path)

    # Calls of the operating system -----------------------------------------------------------------------------------
    def describe(self, file: OpenFile) -> int:
        self._next += 1
        self.open_files[self._next] = file
        return self._next

    def _need_parent(self, path: str) -> None:
        if path.rsplit("/", 1)[0] not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def open(self, path: str, mode: str, is_exclusive: bool = False) -> OpenFile:
        if path in self.folders:
            return OpenFile(self, path, Content(), mode)
        content = self.files.get(path)
        if "r" in mode and "+" not in mode:
            self.look(path)
            content = self.files.get(path)
            if content is None:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            return OpenFile(self, path, content, mode)
        self._need_parent(path)
        if content is None:
            self.touch("create", path)
            if is_exclusive and path in self.files:  # somebody was faster while the disk stalled
                raise FileExistsError(errno.EEXIST, "File exists", path)
            content = self.files.setdefault(path, Content())
            content.modified = self.world.now
        elif is_exclusive:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        elif "w" in mode:
            self.touch("truncate", path)
            content.data.clear()
            content.synced = 0
        return OpenFile(self, path, content, mode)

    def fsync(self, descriptor: int) -> None:
        file = self.open_files[descriptor]
        self.touch("fsync", file.path)
        file.content.synced = len(file.content.data)

    def replace(self, source: str, target: str) -> None:
        self.touch("replace", target)
        if source not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", source)
        self._need_parent(target)
        content = self.files[source]
        del self.files[source]
        self.files[target] = content

    def link(self, source: str, target: str) -> None:
        self.touch("create", target)
        if source not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", source)
        if target in self.files:
            raise FileExistsError(errno.EEXIST, "File exists", target)
        self.files[target] = self.files[source]

    def unlink(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self.touch("unlink", path)
        self.files.take(path)

    def mkdir(self, path: str) -> None:
        if path in self.folders or path in self.files:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._need_parent(path)
        self.touch("create", path)
        self.folders.add(path)

    def remove_tree(self, path: str) -> None:
        self.touch("unlink", path)
        prefix = path + "/"
        for name in [n for n in self.files if n.startswith(prefix)]:
            del self.files[name]
        self.folders = {f for f in self.folders if f != path and not f.startswith(prefix)}

    def list_folder(self, path: str) -> Entries:
        self.look(path)
        if path not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        prefix = path + "/"
        folders = (name for name in self.folders if name.startswith(prefix) and "/" not in name[len(prefix) :])
        return Entries(Entry(self, name) for name in sorted((*folders, *self.files.in_folder[path])))

    def stat(self, path: str) -> os.stat_result:
        process = current_process()
        if process is not None and process.is_dead:
            raise Killed
        content = self.files.get(path)
        if content is None and (path in self.folders or self._is_of_a_living_process(path)):
            return os.stat_result((stat.S_IFDIR | 0o700, 1, 1, 1, os.geteuid(), 0, 0, 0, 0, 0))
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        when = EPOCH + content.modified
        return os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, os.geteuid(), 0, len(content.data), when, when, when))

    def _is_of_a_living_process(self, path: str) -> bool:
        """Whether it is the folder of a process under `/proc`, and the process lives on the host that asks."""
        found, asking = PROCESS.fullmatch(path), current_process()
        if found is None or asking is None:
            return False
        return any(p.host is asking.host and p.pid == int(found[1]) for p in self.world.processes)

    # By hand ---------------------------------------------------------------------------------------------------------
    def lose_unsynced(self, host: Host) -> None:
        """A host's power fails, and what it has written without syncing was in its memory alone."""
        for content in self.files.values():
            if content.host is host and len(content.data) > content.synced:
                del content.data[content.synced :]

    def write_by_hand(self, path: Path, data: bytes) -> None:
        content = self.files.setdefault(str(path), Content())
        content.data[:], content.synced = data, len(data)

    def digest(self) -> str:
        """Of everything that is in files: equal where two simulations have done the same."""
        found = hashlib.sha256()
        for path in sorted(self.files):
            found.update(path.encode() + bytes(self.files[path].data))
        return found.hexdigest()

    def lines(self, path: Path) -> list[bytes]:
        content = self.files.get(str(path))
        return [] if content is None else bytes(content.data).splitlines(keepends=True)

    def cut_lines(self, path: Path, count: int) -> int:
        """Cut lines off the end of a file; how many there were to cut."""
        content = self.files.get(str(path))
        if content is None:
            return 0
        lines = bytes(content.data).splitlines(keepends=True)
        kept = b"".join(lines[: max(0, len(lines) - count)])
        content.data[:] = kept
        content.synced = len(kept)
        return min(count, len(lines))

    # Mounting --------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Let `os`, `io` and the clocks of `pipeline.files` be this world's, for paths below `ROOT`."""
        patches = [
            *_calls_of(self),
            (os, "getpid", _of_process(os.getpid, lambda p: p.pid)),
            (os, "uname", _of_process(os.uname, lambda p: _named(p.host.name))),
            (platform, "node", _of_process(platform.node, lambda p: p.host.name)),
            (pipeline.files, "time", _Time()),
        ]
        before = [(where, name, getattr(where, name)) for where, name, _ in patches]
        for where, name, replacement in patches:
            setattr(where, name, replacement)
        try:
            yield
        finally:
            for where, name, original in before:
                setattr(where, name, original)


class _Time:
    """`time` as `pipeline.files` sees it."""

    def monotonic(self) -> float:
        process = current_process()
        return time.monotonic() if process is None else process.runtime.monotonic()

    def time(self) -> float:
        process = current_process()
        return time.time() if process is None else process.runtime.time()

    def sleep(self, seconds: float) -> None:
        thread = getcurrent()
        if isinstance(thread, GreenThread):
            thread.process.world.suspend(seconds)


def _named(name: str) -> os.uname_result:
    return os.uname_result(("Linux", name, "", "", ""))


def _of_process(original: Callable[[], Any], of: Callable[[Process], Any]) -> Callable[[], Any]:
    def call() -> Any:
        process = current_process()
        return original() if process is None else of(process)

    return call


def _inside(path: Any) -> str | None:
    """The path as text if it is below `ROOT`, or a virtual process asks whether another lives; else None."""
    text = path if isinstance(path, str | int) else os.fspath(path)
    if not isinstance(text, str):
        return None
    if text.startswith(ROOT) or (text.startswith("/proc/") and PROCESS.fullmatch(text) and current_process()):
        return text
    return None


def _calls_of(disk: Disk) -> list[tuple[Any, str, Any]]:
    """(module, name, replacement) of every call that a disk answers."""
    real = {name: getattr(os, name) for name in ("close", "fsync", "fstat", "fdopen", "open", "scandir", "listdir")}

    def first_path(original: Any, act: Callable[..., Any]) -> Any:
        def call(path: Any, *arguments: Any, **named: Any) -> Any:
            text = _inside(path)
            return original(path, *arguments, **named) if text is None else act(text, *arguments, **named)

        return call

    def first_descriptor(original: Any, act: Callable[..., Any]) -> Any:
        def call(descriptor: Any, *arguments: Any, **named: Any) -> Any:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            virtual = number >= FIRST_DESCRIPTOR
            return act(number, *arguments) if virtual else original(descriptor, *arguments, **named)

        return call

    def open_by_flags(path: str, flags: int, mode: int = 0o777, **_: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        return disk.open(path, "wb" if writes else "rb", bool(flags & os.O_EXCL)).descriptor

    def fdopen(descriptor: int, mode: str = "r", *_: Any) -> OpenFile:
        file = disk.open_files[descriptor]
        file.mode = mode
        return file

    def fstat(descriptor: int) -> os.stat_result:
        return disk.stat(disk.open_files[descriptor].path)

    def open_file(path: str, mode: str = "r", *_: Any, **__: Any) -> OpenFile:
        return disk.open(path, mode, "x" in mode)

    in_os: dict[str, Any] = {
        "open": first_path(os.open, open_by_flags),
        "stat": first_path(os.stat, lambda path, **_: disk.stat(path)),
        "lstat": first_path(os.lstat, lambda path, **_: disk.stat(path)),
        "replace": first_path(os.replace, lambda path, target, **_: disk.replace(path, os.fspath(target))),
        "rename": first_path(os.rename, lambda path, target, **_: disk.replace(path, os.fspath(target))),
        "link": first_path(os.link, lambda path, target, **_: disk.link(path, os.fspath(target))),
        "unlink": first_path(os.unlink, lambda path, **_: disk.unlink(path)),
        "mkdir": first_path(os.mkdir, lambda path, *_, **__: disk.mkdir(path)),
        "scandir": first_path(os.scandir, disk.list_folder),
        "listdir": first_path(os.listdir, lambda path: [entry.name for entry in disk.list_folder(path)]),
        "close": first_descriptor(real["close"], lambda number: disk.open_files.pop(number, None)),
        "fsync": first_descriptor(real["fsync"], disk.fsync),
        "fstat": first_descriptor(real["fstat"], fstat),
        "fdopen": first_descriptor(real["fdopen"], fdopen),
    }
    opened = first_path(io.open, open_file)
    return [
        *((os, name, call) for name, call in in_os.items()),
        (io, "open", opened),
        (builtins, "open", opened),
        (shutil, "rmtree", first_path(shutil.rmtree, lambda path, **_: disk.remove_tree(path))),
        (shutil, "_USE_CP_SENDFILE", False),  # the kernel knows no virtual file
    ]
