"""Linear algebra on one thread, whichever threads of the process are at it."""

import threading

import numpy as np
from threadpoolctl import ThreadpoolController

from pipeline.blas import OneThread, one_thread


class Controller:
    """Counts as threadpoolctl's, and is its own limiter."""

    threads = 8

    def limit(self, limits: int) -> "Controller":
        self.before, self.threads = self.threads, limits
        return self

    def restore_original_limits(self) -> None:
        self.threads = self.before


def test_the_limit_lasts_until_the_last_thread_has_left_and_is_lifted_then() -> None:
    controller = Controller()
    context = OneThread(controller)
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with context:
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with context:
        thread.start()
        assert entered.wait(30)
    assert controller.threads == 1, "the other thread is still inside"
    leave.set()
    thread.join()
    assert controller.threads == 8


def test_the_process_has_one_thread_for_linear_algebra() -> None:
    np.linalg.cholesky(np.eye(2))
    with one_thread():
        libraries = [library for library in ThreadpoolController().info() if library["user_api"] == "blas"]
    assert {library["num_threads"] for library in libraries} == {1}
