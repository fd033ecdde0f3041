"""A pass as a timeline for https://ui.perfetto.dev: one track per resource, slices named by operation, layer, expert.

The JSON trace-event format ("X" events, microseconds). HB, array and vector unit are those of the PE that decided the
record's end.
"""

from __future__ import annotations

import json

import numpy as np

from sw_stack.compiler.dispatch import Kernel, Precision, Tier
from sw_stack.machines.engine.engine import PassResult
from sw_stack.machines.engine.resources import END_NS, NAMES, START_NS, Resource

_TRACKS = list(dict.fromkeys(NAMES.values()))


def events(result: PassResult, process: str, number: int = 0) -> list[dict]:
    """Trace events of one pass. ``process`` names the group of tracks, ``number`` tells several apart."""
    made: list[dict] = [{"ph": "M", "pid": number, "name": "process_name", "args": {"name": process}}]
    for track, name in enumerate(_TRACKS):
        made.append({"ph": "M", "pid": number, "tid": track, "name": "thread_name", "args": {"name": name}})
        made.append(
            {"ph": "M", "pid": number, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}
        )
    records, names = result.dispatch.records, result.dispatch.names
    for i, resource in np.argwhere(result.acts[:, :, END_NS] > result.acts[:, :, START_NS]):
        record, act = records[i], result.acts[i, resource]
        where = f" L{record['layer']}" if record["layer"] >= 0 else ""
        which = f" E{record['expert']}" if record["expert"] >= 0 else ""
        made.append(
            {
                "ph": "X",
                "pid": number,
                "tid": _TRACKS.index(NAMES[Resource(resource)]),
                "ts": round(act[START_NS] / 1e3, 4),
                "dur": round((act[END_NS] - act[START_NS]) / 1e3, 4),
                "name": f"{names[record['operation']]}{where}{which}",
                "cat": Kernel(record["kernel"]).name,
                "args": {
                    "record": int(i),
                    "tokens": int(record["tokens"]),
                    "precision": Precision(record["precision"]).name,
                    "msb": Tier(record["msb_tier"]).name,
                    "lsb": Tier(record["lsb_tier"]).name,
                },
            }
        )
    return made


def to_json(parts: list[list[dict]]) -> str:
    """The file's text from the events of one or more passes."""
    return json.dumps({"traceEvents": [event for part in parts for event in part], "displayTimeUnit": "ns"})
