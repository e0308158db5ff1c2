"""A connection between the main process and its workers: messages go one way, the request to stop the other."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from threading import Lock, RLock, Thread
from typing import Any, Self

__all__ = ["Address", "Hub", "Line"]

# A socket with a name in the file system would stay there when its process is killed. This one can be reached by
# everybody on this machine, and turns away who does not know the key.
_HOST = "127.0.0.1"
_BACKLOG = 128

# A worker that ends closes its line at once; the hub waits at most this long for one that does not.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Address:
    """Where to reach a hub: its port on this machine, the key that it asks for, and the id of its process."""

    port: int
    key: bytes
    process: int


class Hub:
    """Receives messages from workers and can tell all of them to stop.

    There is no further process between them that could outlive a hub that is killed.

    Args:
        on_message: Called with every message, one at a time, in threads of this process.
    """

    def __init__(self, on_message: Callable[[Any], None]) -> None:
        self._on_message = on_message
        # A signal handler calls `stop`; it must not wait for a lock that the interrupted code holds.
        self._messages, self._calls = Lock(), RLock()
        self._lines: list[Connection[Any, Any]] = []
        self._readers: list[Thread] = []
        self._stopped = False
        self._open = True

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Receive messages until the end of the block, then tell the workers that are still connected to stop."""
        key = secrets.token_bytes(32)
        with Listener((_HOST, 0), family="AF_INET", backlog=_BACKLOG) as listener:
            self.address = Address(listener.address[1], key, os.getpid())
            acceptor = Thread(target=self._accept, args=[listener], daemon=True)
            acceptor.start()
            try:
                yield self
            finally:
                self.stop()
                self._open = False
                with socket.create_connection(listener.address):
                    pass
                acceptor.join()
                for reader in self._readers:
                    reader.join(_PATIENCE)

    def stop(self) -> None:
        """Tell all workers to stop, also those that connect later."""
        with self._calls:
            self._stopped = True
            for line in self._lines:
                with suppress(OSError):
                    line.send(None)

    def _accept(self, listener: Listener) -> None:
        while self._open:
            try:
                line = listener.accept()
            except OSError:  # perhaps too many open files; a worker that gets no answer ends
                time.sleep(0.1)
                continue
            reader = Thread(target=self._read, args=[line], daemon=True)
            self._readers.append(reader)
            reader.start()

    def _read(self, line: Connection[Any, Any]) -> None:
        with suppress(EOFError, OSError, AuthenticationError), line:
            # In a separate thread, so that a client that connects and stays silent blocks nobody.
            deliver_challenge(line, self.address.key)
            answer_challenge(line, self.address.key)
            with self._calls:
                self._lines.append(line)
                line.send(self._stopped)
            while True:
                message = line.recv()
                with self._messages:
                    self._on_message(message)


class Line:
    """A worker's end of the line."""

    def __init__(self, address: Address) -> None:
        self._connection = Client((_HOST, address.port), authkey=address.key)
        # The hub first says whether to stop, so that no work begins that would stop at once.
        self._was_stopped = bool(self._connection.recv())

    def __enter__(self) -> Self:
        """Keep the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, message: Any) -> None:
        """Send a message; it is dropped if the hub is gone."""
        with suppress(OSError):
            self._connection.send(message)

    def stopped(self) -> bool:
        """Whether the hub has said to stop, or is gone."""
        return self._was_stopped or self._connection.poll()
