"""A master's heart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.master.lease import Lease


@contextmanager
def beating(lease: Lease) -> Iterator[None]:
    """The lease's heart beats meanwhile."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            lease.beat()

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
