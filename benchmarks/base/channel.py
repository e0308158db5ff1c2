"""A line between the process that trains and its worker processes: news one way, the word to stop the other."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from threading import Lock, RLock, Thread
from typing import Any, Self

__all__ = ["Address", "Hub", "Line"]

# A worker that ends hangs up at once; nobody waits longer than this for one that does not.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Address:
    """Where a hub is reached, the key that it asks for, and the id of its process."""

    path: str
    key: bytes
    process: int


class Hub:
    """Takes messages from workers and tells them all to stop.

    No process of its own stands between them, so that nothing outlives a hub that is killed.

    Args:
        on_message: Called with every message, one at a time, in threads of this process.
    """

    def __init__(self, on_message: Callable[[Any], None]) -> None:
        self._on_message = on_message
        # `stop` is called by a signal handler, which must not wait for what the code that it interrupts holds.
        self._messages, self._calls = Lock(), RLock()
        self._lines: list[Connection[Any, Any]] = []
        self._readers: list[Thread] = []
        self._stopped = False
        self._open = True

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Take messages until the end of the block; workers that are still on the line then are told to stop."""
        key = secrets.token_bytes(32)
        with _socket_path() as path, Listener(path, family="AF_UNIX") as listener:
            self.address = Address(path, key, os.getpid())
            acceptor = Thread(target=self._accept, args=[listener], daemon=True)
            acceptor.start()
            try:
                yield self
            finally:
                self.stop()
                self._open = False
                with socket.socket(socket.AF_UNIX) as wake:
                    wake.connect(path)
                acceptor.join()
                for reader in self._readers:
                    reader.join(_PATIENCE)

    def stop(self) -> None:
        """Tell all workers to stop, also those that call later."""
        with self._calls:
            self._stopped = True
            for line in self._lines:
                with suppress(OSError):
                    line.send(None)

    def _accept(self, listener: Listener) -> None:
        while self._open:
            try:
                line = listener.accept()
            except OSError:  # too many open files, perhaps; a worker that is not answered ends
                time.sleep(0.1)
                continue
            reader = Thread(target=self._read, args=[line], daemon=True)
            self._readers.append(reader)
            reader.start()

    def _read(self, line: Connection[Any, Any]) -> None:
        with suppress(EOFError, OSError, AuthenticationError), line:
            # In a thread of its own, so that one who calls and says nothing keeps nobody waiting.
            deliver_challenge(line, self.address.key)
            answer_challenge(line, self.address.key)
            with self._calls:
                self._lines.append(line)
                line.send(self._stopped)
            while True:
                message = line.recv()
                with self._messages:
                    self._on_message(message)


@contextmanager
def _socket_path() -> Iterator[str]:
    """Give a path for a socket; systems allow about 100 bytes, which a scheduler's TMPDIR may exceed."""
    folder = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="sen-bench-", dir=folder if len(folder) < 60 else "/tmp") as private:  # noqa: S108
        yield f"{private}/hub"


class Line:
    """A worker's end of the line."""

    def __init__(self, address: Address) -> None:
        self._connection = Client(address.path, authkey=address.key)
        # The hub's first word, so that nothing is begun that is to stop at once.
        self._told_to_stop = bool(self._connection.recv())

    def __enter__(self) -> Self:
        """Stay on the line."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def send(self, message: Any) -> None:
        """Send a message; one that nobody can hear any more is dropped."""
        with suppress(OSError):
            self._connection.send(message)

    def stopped(self) -> bool:
        """Whether the hub said to stop, or is gone."""
        return self._told_to_stop or self._connection.poll()
