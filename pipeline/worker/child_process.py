"""The process that runs an objective of the user's own, as its worker sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What one evaluation may print into the log; what the log may hold, and again as much as `.old`; and what is kept to
# quote when it dies.
MAX_OUTPUT_BYTES = 1_000_000
MAX_LOG_BYTES = 20_000_000
TAIL_LINES = 20
END_S = 2.0


class ChildProcess:
    """A child and the pipes to and from it.

    Args:
        command: the child's; two file descriptors, to read from and to write to, are added.
        environment: all of it.
        log: what it prints is added there, within bounds.

    Attributes:
        heard_at: when it last said or printed something, on the monotonic clock.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        child_reads, self._write_to = os.pipe()
        self._read_from, child_writes = os.pipe()
        try:
            # A session of its own: whatever it starts can be ended with it, and no terminal's Ctrl-C reaches it.
            self._process = subprocess.Popen(
                [*command, str(child_reads), str(child_writes)],
                pass_fds=(child_reads, child_writes),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            os.close(self._write_to)
            os.close(self._read_from)
            raise
        finally:
            os.close(child_reads)
            os.close(child_writes)
        self._torn = b""
        self.heard_at = time.monotonic()
        self._output = _Output(self._process, log, self._note_output)

    def _note_output(self) -> None:
        self.heard_at = time.monotonic()

    def send(self, **message: Any) -> None:
        """Tell the child something; a dead one is told nothing."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write_to, (json.dumps(message) + "\n").encode())

    def receive(self, wait_s: float) -> list[dict[str, Any]]:
        """What the child has said by now, waiting at most so long for the first word."""
        ready, _, _ = select.select([self._read_from], [], [], wait_s)
        if not ready:
            return []
        content = os.read(self._read_from, 1 << 20)
        if not content:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the pipe closes a moment before the process ends
                self._process.wait(END_S)
            return []
        self.heard_at = time.monotonic()
        *lines, self._torn = (self._torn + content).split(b"\n")
        return [json.loads(line) for line in lines]

    def begin_evaluation(self, name: str) -> None:
        """Give the next evaluation its share of the log, under its name."""
        self._output.restart(name)

    @property
    def was_cut(self) -> bool:
        """Whether the present evaluation has printed more than the log keeps."""
        return self._output.was_cut

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def how_it_ended(self) -> str:
        """Of a dead child: by which signal or status, and its last words."""
        self._output.join()
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        if code == -signal.SIGKILL:
            how += " (the kernel does that when memory runs out)"
        last = self._output.last_words()
        return f"its process {how}" + (f"; it last said: {last}" if last else "")

    def end(self) -> None:
        """End the process, whatever it does and whatever it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.join()
        for descriptor in (self._write_to, self._read_from):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._write_to = self._read_from = -1


class _Output:
    """Writes what a process prints into a log, at most so much of each evaluation, and keeps the last lines."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, note: Any) -> None:
        self._log = log
        self._note = note
        self._left = MAX_OUTPUT_BYTES
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        assert process.stdout is not None
        self._stream = process.stdout
        self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
        self._thread.start()

    def restart(self, name: str) -> None:
        self._left = MAX_OUTPUT_BYTES
        with contextlib.suppress(OSError):
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"--- {name}\n")

    @property
    def was_cut(self) -> bool:
        return self._left < 0

    def _copy(self) -> None:
        with contextlib.suppress(OSError):
            self._log.parent.mkdir(exist_ok=True)  # not the run's folder above it, which may have been renamed
        with self._stream:
            while content := os.read(self._stream.fileno(), 1 << 16):
                self._note()
                self._tail.extend(content.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
                if self._left > 0:
                    with contextlib.suppress(OSError):  # a full disk shall not stop it from printing
                        self._write(content)
                    self._left -= len(content)

    def _write(self, content: bytes) -> None:
        """Add to the log what the evaluation has left; a full log becomes the old one, in place of the last such."""
        cut = b"\n... more than 1 MB: the rest of this evaluation's output is left out\n"
        with self._log.open("ab", buffering=0) as log:
            log.write(content[: self._left] + (cut if len(content) > self._left else b""))
            is_full = log.tell() > MAX_LOG_BYTES
        if is_full:
            self._log.replace(self._log.with_name(self._log.name + ".old"))

    def join(self) -> None:
        # Something that it has started may hold its output open.
        self._thread.join(END_S)

    def last_words(self) -> str:
        said = [line.strip() for line in self._tail if line.strip()]
        return said[-1][:300] if said else ""
