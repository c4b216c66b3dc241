"""What a server tells of connections that it refuses."""

from __future__ import annotations

import logging

import pytest

from pipeline.rpc.server import REFUSALS_EVERY_S, REFUSALS_TOLD, RefusalLog
from pipeline.runtime import SystemRuntime


class Clock(SystemRuntime):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_flood_of_refusals_makes_a_few_lines_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tandem.rpc")
    clock = Clock()
    refusals = RefusalLog(clock)
    for number in range(10_000):
        refusals.note("10.0.0.7" if number % 4 else f"10.0.1.{number % 250}", "wrong version number")
        clock.now += 2 * REFUSALS_EVERY_S / 10_000
    clock.now += REFUSALS_EVERY_S
    refusals.sum_up()
    refusals.sum_up()
    assert len(caplog.messages) == 2 * (REFUSALS_TOLD + 1)
    assert caplog.messages[0] == "refused a connection from 10.0.1.0: wrong version number"
    assert "refused 4995 more connections within 60 s; most of: 10.0.0.7 37" in caplog.text


def test_few_refusals_are_each_told_with_their_peer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tandem.rpc")
    clock = Clock()
    refusals = RefusalLog(clock)
    for number in range(3):
        refusals.note(f"10.0.0.{number}", "no handshake within 8 s")
    clock.now += REFUSALS_EVERY_S
    refusals.sum_up()
    assert [message.split()[4].rstrip(":") for message in caplog.messages] == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
