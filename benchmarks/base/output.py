"""Standard output and standard error of a command, which never end it: what cannot be written is dropped and noted."""

from __future__ import annotations

import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Output", "open_output"]


class _Descriptor(io.FileIO):
    """The descriptor of a standard stream, on a full disk or a lost terminal as good as anywhere.

    Attributes:
        refusal: Why something could not be written, the first time; None as long as everything was written.
    """

    refusal: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes, or drop them if the system refuses them. Later ones are tried again: a disk may get space."""
        try:
            while (written := super().write(data)) is None:  # a pipe that does not block and is full
                select.select((), (self,), ())
        except OSError as error:
            self.refusal = self.refusal or error
            return memoryview(data).nbytes
        return written


class Output:
    """The standard output of this process.

    Attributes:
        is_needed: Whether a command fails if its output cannot be written; not if its results are in files as well.
    """

    def __init__(self, text: TextIO, descriptor: _Descriptor | None) -> None:
        self._text, self._descriptor = text, descriptor
        self.is_needed = True

    @property
    def refusal(self) -> OSError | None:
        """Why output could not be written, the first time; None if all of it was written."""
        self._text.flush()
        return self._descriptor.refusal if self._descriptor else None


def open_output() -> Output:
    r"""Replace `sys.stdout` and `sys.stderr` by streams that raise no error, and return the first.

    Characters that their encoding lacks are written as escapes such as \u03b1, so that two names never become one.
    Streams without a descriptor, such as those of tests, are left alone.
    """
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - for as long as the process lives
    sys.stdout, descriptor = _open(sys.stdout)
    sys.stderr, _ = _open(sys.stderr)
    return Output(sys.stdout, descriptor)


def _open(stream: TextIO | None) -> tuple[TextIO, _Descriptor | None]:
    if stream is None:
        # The shell has closed it. Its number is taken, or the next file that is opened would get it, and with it what
        # libraries and worker processes print. Nothing can be written to this one.
        number, encoding, is_terminal = os.open(os.devnull, os.O_RDONLY), "utf-8", False
        os.set_inheritable(number, True)
    else:
        try:
            number = stream.fileno()
        except io.UnsupportedOperation:
            return stream, None
        stream.flush()
        encoding, is_terminal = stream.encoding, stream.isatty()
    descriptor = _Descriptor(number, "w", closefd=False)
    buffer = io.BufferedWriter(descriptor)
    return io.TextIOWrapper(buffer, encoding, errors="backslashreplace", line_buffering=is_terminal), descriptor
