"""Keys that are pressed while a view is shown, without waiting for the end of a line."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Any, Self


class Keys:
    """The keys of a terminal; where standard input is none, nothing is ever pressed.

    Ctrl-C works as ever.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the terminal's lines away from it, until the end."""
        if sys.stdin.isatty():
            self._descriptor = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """The next key, or "" when the time is up."""
        if self._before is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return ""
        pressed = os.read(self._descriptor, 64).decode("utf-8", "replace")
        if not pressed:  # the terminal is gone
            time.sleep(seconds)
        return pressed[:1].lower()
