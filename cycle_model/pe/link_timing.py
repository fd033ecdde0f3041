"""When the words of a link come: loads in closed form, chunk by chunk.

``chunks`` and ``offered`` [chunks] are the words of each and the cycle from which they are offered (`Links` of
`cycle_model.pe.outcome`); ``position`` is [chunk, word in it].
"""

import numpy as np

from cycle_model.kernel_cache import njit

NEVER = 1 << 60
"""Cycle of what does not happen, or is not yet known to."""


@njit(cache=True)
def load(chunks, offered, position, first, number):
    """Cycle of the last of ``number`` words loaded from cycle ``first`` on, NEVER if it does not come.

    ``position`` moves on.
    """
    at = first
    while number > 0:
        if position[0] == len(chunks):
            return NEVER
        here = min(number, chunks[position[0]] - position[1])
        at = max(at, offered[position[0]]) + here
        number -= here
        position[1] += here
        if position[1] == chunks[position[0]]:
            position[0], position[1] = position[0] + 1, 0
    return at - 1


@njit(cache=True)
def words_from(chunks, offered, position, number):
    """Cycles from which the next ``number`` words are offered, or as many as the link has; ``position`` moves on."""
    cycles = np.empty(number, dtype=np.int64)
    found = 0
    while found < number and position[0] < len(chunks):
        cycles[found] = offered[position[0]]
        found += 1
        position[1] += 1
        if position[1] == chunks[position[0]]:
            position[0], position[1] = position[0] + 1, 0
    return cycles[:found]


@njit(cache=True)
def next_run(chunks, offered, position, first, number, after):
    """(begin, end) of the first run of words of a load that ends behind cycle ``after``; (NEVER, NEVER) if none.

    The load of ``number`` words began in cycle ``first`` at ``position``, which stays.
    """
    chunk, word, at = position[0], position[1], first
    while number > 0 and chunk < len(chunks):
        here = min(number, chunks[chunk] - word)
        begin = max(at, offered[chunk])
        at = begin + here
        if at - 1 > after:
            return max(begin, after + 1), at - 1
        number -= here
        chunk, word = chunk + 1, 0
    return NEVER, NEVER
