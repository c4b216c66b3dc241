"""What worker and child tell each other: a JSON object a line, over two pipes.

To the child: {"evaluate": order}, {"stop": reason}, {"flushed": true}. An end of file means that the worker is gone.
To the worker: {"ready": problem}, {"broken": text}, {"alive": true}, {"begin": ...}, {"row": ...}, {"flush": true},
{"note": text}, {"end": ...}.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from typing import Any

ALIVE_S = 1.0


class Wire:
    """The child's end.

    Attributes:
        stop: why the present evaluation shall stop; None: it shall not.
    """

    def __init__(self, read_from: int, write_to: int) -> None:
        self._input = os.fdopen(read_from, "rb")
        self._output = write_to
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._flushed = threading.Event()
        self.stop: str | None = None
        threading.Thread(target=self._listen, name="tandem", daemon=True).start()

    def send(self, **message: Any) -> None:
        """Tell the worker something; waits while the pipe is full."""
        text = (json.dumps(message) + "\n").encode()
        with self._lock:
            while text:
                text = text[os.write(self._output, text) :]

    def next_order(self) -> Any:
        """Wait for the next evaluation."""
        order = self._orders.get()
        self.stop = order.pop("stop", None)
        return order

    def flush(self) -> None:
        """Wait until every row sent so far is on disk."""
        self._flushed.clear()
        self.send(flush=True)
        self._flushed.wait()

    def _listen(self) -> None:
        for line in self._input:
            message = json.loads(line)
            if "evaluate" in message:
                self._orders.put(message["evaluate"])
            elif "stop" in message:
                self.stop = message["stop"]
            elif "flushed" in message:
                self._flushed.set()
        os._exit(0)  # without its worker nobody hears of what is trained here
