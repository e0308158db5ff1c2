from __future__ import annotations

import time
from dataclasses import replace
from multiprocessing import AuthenticationError
from threading import Event
from typing import Any

import pytest

from benchmarks.base.channel import Hub, Line


def hears_stop(line: Line) -> bool:
    end = time.monotonic() + 10
    while not line.stopped() and time.monotonic() < end:
        time.sleep(0.01)
    return line.stopped()


def test_messages_arrive_in_order_and_the_word_to_stop_reaches_everybody() -> None:
    messages: list[Any] = []
    arrived = Event()

    def take(message: Any) -> None:
        messages.append(message)
        if len(messages) == 100:
            arrived.set()

    with Hub(take).listening() as hub:
        early = Line(hub.address)
        for number in range(100):
            early.send(("epoch", number))
        assert arrived.wait(10)
        assert not early.stopped()
        hub.stop()
        with Line(hub.address) as late:
            assert hears_stop(late)
        assert hears_stop(early)
        early.close()
    assert messages == [("epoch", number) for number in range(100)]


def test_line_knows_when_the_hub_is_gone() -> None:
    with Hub(lambda _: None).listening() as hub:
        address = hub.address
    with pytest.raises(ConnectionRefusedError):
        Line(address)


def test_strangers_are_turned_away() -> None:
    with Hub(lambda _: pytest.fail("took a message of a stranger")).listening() as hub:
        with pytest.raises(AuthenticationError):
            Line(replace(hub.address, key=b"guess"))
        with Line(hub.address) as line:
            assert not line.stopped()
