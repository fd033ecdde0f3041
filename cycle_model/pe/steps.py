"""What an executed instruction is to the models of time: the columns of a decoded step."""

from enum import IntEnum

import numpy as np


class Kind(IntEnum):
    """How the sequencer spends time on a step."""

    RECORD = 0  # dispatch words, WORDS of them
    PLAIN = 1  # fetch, execute
    DESCRIBE = 2  # one cycle more
    WAIT = 3
    PUSH = 4  # a command for a queue
    BAD_FETCH = 5  # an error: in fetch, in execute, in the third cycle of DESCRIBE
    BAD_EXECUTE = 6
    BAD_DESCRIBE = 7
    ENDLESS = 8  # a loop of the sequencer alone, cut after more instructions than the watchdog has cycles


class Step(IntEnum):
    """Columns of a step.

    WAIT0 ... SIGNAL1  semaphores, -1 for none
    IS_REFILL          STREAM: REFILL
    WORDS              words or HB columns of a transfer, words of a record, rows of a vector command,
                       token blocks of a MATMUL
    COLUMN             first HB data column, linear
    SLOTS, INTERVAL, LATENCY  ARRAY: slots, cycles from one to the next, from the begin of the last to done;
                       VECTOR: rows, cycles of each, latency
    ERROR              `PeError` that the unit finds in its operands at start, or that the sequencer finds
    """

    KIND = 0
    UNIT = 1
    INSTRUCTION = 2
    WAIT0 = 3
    WAIT1 = 4
    SIGNAL0 = 5
    SIGNAL1 = 6
    IS_REFILL = 7
    WORDS = 8
    COLUMN = 9
    SLOTS = 10
    INTERVAL = 11
    LATENCY = 12
    ERROR = 13


STEP_COLUMNS = len(Step)


def command_numbers(steps: np.ndarray) -> np.ndarray:
    """For each step the commands pushed before it, int64 [steps + 1]; the last is the number of all commands."""
    return np.append(0, np.cumsum(steps[:, Step.KIND] == Kind.PUSH))
