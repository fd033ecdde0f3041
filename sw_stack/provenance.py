"""Where a result comes from: carried by every JSON file that a command writes."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from importlib.metadata import version

import numpy as np


def provenance(config: dict, seed: int) -> dict:
    """Version, command line, seed, configuration and its hash; no time, so that a rerun gives the same bytes.

    Parameters
    ----------
    config : dict of JSON values
        Everything beside the seed that determines the result.
    seed : int
    """
    text = json.dumps(config, sort_keys=True, allow_nan=False)
    return {
        "version": version("elmoe3d"),
        "numpy": np.__version__,
        "command": shlex.join(["elmoe3d", *sys.argv[1:]]),
        "seed": seed,
        "config": config,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
