"""Register accesses over a serial port, in the frames of `hw.uart_frames`. Every wait is bounded."""

from __future__ import annotations

import binascii
import struct
import time
from collections.abc import Sequence
from typing import Protocol

from hw.errors import UserError
from hw.memory_map import WORD_BYTES
from hw.uart_frames import REQUEST, RESPONSE, WORDS, Command, Status

RESPONSE_SECONDS = 2.0
"""Longest wait for a response; a frame of 64 words takes 2.7 ms at 1 Mbaud."""


class Port(Protocol):
    """A byte stream as pySerial offers it: ``read`` returns fewer bytes than asked for when its own wait is over."""

    def read(self, size: int) -> bytes: ...

    def write(self, content: bytes) -> int | None: ...

    def close(self) -> None: ...


def open_port(name: str, baud: int) -> Port:
    """The serial port called ``name``; UserError where pySerial is missing or the port cannot be opened."""
    try:
        import serial
    except ModuleNotFoundError as error:
        raise UserError("pyserial is not installed: pip install -e .[fpga]") from error
    try:
        return serial.Serial(name, baud, timeout=0.05, write_timeout=RESPONSE_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(f"port {name} cannot be opened: {_short(error)}") from error


def _short(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)).splitlines()[0]


def request_frame(address: int, *, words: Sequence[int] = (), count: int = 0, fixed: bool = False) -> bytes:
    """A write of ``words``, or a read of ``count`` words where there are none."""
    command = (Command.WRITE if words else Command(0)) | (Command.FIXED if fixed else Command(0))
    body = struct.pack(f"<BBI{len(words)}I", command, len(words) or count, address, *words)
    return bytes([REQUEST]) + body + binascii.crc_hqx(body, 0).to_bytes(2, "big")


class HostLink:
    """Reads and writes 32-bit words behind a `Port`.

    Parameters
    ----------
    port : Port
    name : for messages
    seconds : longest wait for a response

    Raises
    ------
    UserError
        One line: the port vanished, nothing answered in time, the answer is garbage, or the board refused the access.
    """

    def __init__(self, port: Port, name: str, seconds: float = RESPONSE_SECONDS):
        self._port, self._name, self._seconds = port, name, seconds

    def write(self, address: int, words: Sequence[int]) -> None:
        """Write consecutive words."""
        for first in range(0, len(words), WORDS):
            part = words[first : first + WORDS]
            at = address + WORD_BYTES * first
            self._exchange(request_frame(at, words=part), at, len(part), 0)

    def read(self, address: int, count: int = 1) -> list[int]:
        """``count`` consecutive words."""
        found: list[int] = []
        while len(found) < count:
            part = min(WORDS, count - len(found))
            at = address + WORD_BYTES * len(found)
            content = self._exchange(request_frame(at, count=part), at, part, part)
            found += struct.unpack(f"<{part}I", content)
        return found

    def _exchange(self, frame: bytes, address: int, count: int, returned: int) -> bytes:
        """Send a request and return the words of its response, as bytes."""
        try:
            self._port.write(frame)
            head = self._receive(3)
            if head[0] != RESPONSE or head[1] not in list(Status):
                raise UserError(f"{self._name} answered {head.hex()}, which begins no response: is it such a board?")
            status, done = Status(head[1]), head[2]
            content = self._receive(WORD_BYTES * (done if returned else 0) + 2)
        except OSError as error:
            raise UserError(f"{self._name} vanished: {_short(error)}") from error
        if binascii.crc_hqx(head[1:] + content, 0):
            raise UserError(f"{self._name} answered with a wrong checksum: noise on the line?")
        if status is Status.BUS_ERROR:
            raise UserError(f"{self._name} refused the access to address {address + WORD_BYTES * done:#x}")
        if status is not Status.OK or done != count:
            raise UserError(f"{self._name} rejected a request of {count} words: {status.name}")
        return content[:-2]

    def _receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        content, deadline = b"", time.monotonic() + self._seconds
        while len(content) < size:
            part = self._port.read(size - len(content))
            content += part
            if not part and time.monotonic() > deadline:
                raise UserError(f"{self._name} did not answer within {self._seconds:g} s ({len(content)} bytes came)")
        return content
