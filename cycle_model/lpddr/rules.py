"""What exact and stream mode share: constraints as integers, command codes, refresh due times. No stepping."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw.lpddr5_config import REFRESH_MODES, Lpddr5Config

COMMANDS = ("ACT-1", "ACT-2", "CAS", "RD", "RDA", "WR", "WRA", "PRE", "PREab", "REFab", "REFpb")
ACT1, ACT2, CAS, RD, RDA, WR, WRA, PRE, PREAB, REFAB, REFPB = range(len(COMMANDS))

REFRESH_NONE, REFRESH_ALL_BANK, REFRESH_PER_BANK = range(len(REFRESH_MODES))

NEVER = 1 << 62  # later than any cycle
LONG_AGO = -(1 << 40)  # earlier than any cycle by more than any constraint


class Rules(NamedTuple):
    """Least distances in CK clocks, and the sizes of one channel. See ``hw.lpddr5_timing`` for the names."""

    burst: int
    cl: int
    cwl: int
    rcd: int
    rp: int
    rpab: int
    ras: int
    rc: int
    rtp: int
    write_to_precharge: int
    ccd_s: int
    ccd_l: int
    read_to_write: int
    write_to_read_s: int
    write_to_read_l: int
    rank_switch: int
    turnaround_other_rank: int
    ppd: int
    rrd: int
    faw: int
    rfcab: int
    rfcpb: int
    pbr2pbr: int
    pbr2act: int
    ranks: int
    groups: int
    banks: int
    banks_per_group: int


class Policy(NamedTuple):
    """The controller's decisions as plain integers; ``interval`` is the refresh interval of one rank in clocks."""

    read_depth: int
    write_depth: int
    write_high: int
    write_low: int
    refresh: int
    postponed: int
    closed_page: int
    age_limit: int
    interval: int
    phase: int


def _record_of(made: Rules | Policy) -> np.record:
    """The named tuple as one record: compiled functions take it by reference."""
    dtype = [(name, np.int64) for name in made._fields]
    return np.array([tuple(made)], dtype).view(np.recarray)[0]


def rules_of(config: Lpddr5Config) -> np.record:
    """The constraints of ``config`` in clocks, a record of the fields of ``Rules``."""
    c, org = config.timing.clocks, config.organization
    made = Rules(
        burst=c.nBL_min,
        cl=c.nCL,
        cwl=c.nCWL,
        rcd=c.nRCD,
        rp=c.nRP,
        rpab=c.nRPab,
        ras=c.nRAS,
        rc=c.nRC,
        rtp=c.nRTP,
        write_to_precharge=c.write_to_precharge,
        ccd_s=max(c.nCCD_S, c.nBL_min),
        ccd_l=c.nCCD_L,
        read_to_write=c.read_to_write,
        write_to_read_s=c.write_to_read_s,
        write_to_read_l=c.write_to_read_l,
        rank_switch=c.rank_switch,
        turnaround_other_rank=c.turnaround_other_rank,
        ppd=c.nPPD,
        rrd=c.nRRD,
        faw=c.nFAW,
        rfcab=c.nRFCab,
        rfcpb=c.nRFCpb,
        pbr2pbr=c.npbR2pbR,
        pbr2act=c.npbR2act,
        ranks=org.ranks,
        groups=org.bank_groups,
        banks=org.banks,
        banks_per_group=org.banks_per_group,
    )
    return _record_of(made)


def policy_of(config: Lpddr5Config) -> np.record:
    """The controller of ``config``, a record of the fields of ``Policy``."""
    ctl, c = config.controller, config.timing.clocks
    mode = REFRESH_MODES.index(ctl.refresh)
    made = Policy(
        read_depth=ctl.read_queue,
        write_depth=ctl.write_queue,
        write_high=ctl.write_high,
        write_low=ctl.write_low,
        refresh=mode,
        postponed=ctl.postponed,
        closed_page=int(ctl.page == "closed"),
        age_limit=ctl.age_limit,
        interval=c.nREFIpb if mode == REFRESH_PER_BANK else c.nREFI,
        phase=ctl.refresh_phase,
    )
    return _record_of(made)


def first_refresh_due(policy: np.record, ranks: int) -> np.ndarray:
    """Cycle of each rank's first refresh, (ranks,): staggered over the interval, ``phase`` clocks early."""
    if policy.refresh == REFRESH_NONE:
        return np.full(ranks, NEVER, np.int64)
    due = (np.arange(1, ranks + 1) * policy.interval // ranks - policy.phase) % policy.interval
    return np.where(due == 0, policy.interval, due).astype(np.int64)
