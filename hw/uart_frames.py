"""Frames between host and UART bridge, shared by RTL and host software. Standard library only.

    request   REQUEST  command  count  address (4 bytes)  [count words, if a write]  checksum (2 bytes)
    response  RESPONSE status   count                     [count words, if a read]   checksum (2 bytes)

Words and addresses are little-endian; ``count`` is 1 to `WORDS`, in a response the words that were read or written.
The checksum is CRC-16/XMODEM, high byte first, over everything between the first byte and itself.
"""

from enum import IntEnum, IntFlag

REQUEST, RESPONSE = 0xA5, 0x5A
WORDS = 64
"""Most words of a frame."""
HEADER_BYTES = 6
"""Command, count and address."""
QUIET_BIT_TIMES = 2048
"""A request that pauses for longer is forgotten."""


class Command(IntFlag):
    """What a request asks for: READ is no bit; FIXED keeps the address instead of adding 4 a word."""

    WRITE = 1
    FIXED = 2


class Status(IntEnum):
    """How a request ended.

    OK         all words
    CHECKSUM   the request was damaged; nothing was done
    BUS_ERROR  the word behind the last one done has no address, or cannot be read or written
    MALFORMED  no such command or count; nothing was done
    """

    OK = 0
    CHECKSUM = 1
    BUS_ERROR = 2
    MALFORMED = 3
