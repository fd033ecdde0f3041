"""Handshake proofs: no beat lost, duplicated or reordered, payloads hold while they wait, progress in bounded time.

Every harness leaves its inputs free, only the stream rule is assumed of them: an offered beat stays, unchanged, until
it is taken. Any one beat may be the *token*: the solver marks it when it enters, and the harness remembers it and
counts what is ahead of it. When nothing is ahead, the output must be that token. As the choice is free, this is a
claim about every beat; invariants that tie the token to the block's registers make it inductive.
"""

from dataclasses import replace

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In

from hw.array.group_accumulator import GroupAccumulator
from hw.array.mac_array import MacArray
from hw.array.pe_array import PeArray
from hw.array.weight_feed import WeightFeed
from hw.isa import WeightMode
from hw.params import ArrayParams
from verification.formal.property import Harness
from verification.formal.stubs import joined_product, joined_sum, joined_term

# Two beats per group, so that gathering and bank switching happen; one column, two lanes.
TINY = ArrayParams(rows=1, columns=1, depth=2, group_size=4, chains=2, dots_per_fp32=1, scale_stages=1, add_stages=1)


def drive(h: Harness, port: stream.Interface, name: str) -> None:
    """Free input stream; assumed: valid and payload stay until the transfer."""
    payload = Value.cast(port.payload)
    valid, bits = h.free(1, f"{name}_valid"), h.free(len(payload), f"{name}_payload")
    h.m.d.comb += [port.valid.eq(valid), payload.eq(bits)]
    waiting, waited = Signal(name=f"{name}_waiting"), Signal(len(payload), name=f"{name}_waited")
    h.m.d.sync += [waiting.eq(valid & ~port.ready), waited.eq(bits)]
    h.assume(f"{name}_stays", ~waiting | (valid & (bits == waited)))


def claim_stable(h: Harness, port: stream.Interface, name: str) -> Value:
    """Claim that the output stream keeps a waiting beat; returns its transfer."""
    payload = Value.cast(port.payload)
    ready = h.free(1, f"{name}_ready")
    h.m.d.comb += port.ready.eq(ready)
    waiting, waited = Signal(name=f"{name}_waiting"), Signal(len(payload), name=f"{name}_waited")
    h.m.d.sync += [waiting.eq(port.valid & ~ready), waited.eq(payload)]
    h.claim(f"{name}_stable", ~waiting | (port.valid & (payload == waited)))
    h.cover(f"{name}_waits", waiting)
    return port.valid & ready


def claim_progress(h: Harness, willing: Value, progress: Value, bound: int, name: str) -> None:
    """Claim: while ``willing`` holds, ``progress`` comes within ``bound`` cycles."""
    idle = Signal(range(bound + 2), name=f"{name}_idle")
    h.m.d.sync += idle.eq(Mux(willing & ~progress, Mux(idle == bound + 1, idle, idle + 1), 0))
    h.claim(f"{name}_within_{bound}", idle <= bound)


def weight_feed(wrong: bool = False) -> Harness:
    """Groups come out whole, in order, as often as ``keep`` asks, decoded from the tile that went in.

    ``wrong`` claims that ``keep`` is ignored.
    """
    h = Harness()
    m, p = h.m, TINY
    m.submodules.dut = dut = WeightFeed(p)
    keep = h.free(1, "keep")
    m.d.comb += dut.keep.eq(keep)
    drive(h, dut.tiles, "tiles")
    leaves = claim_stable(h, dut.operands, "operands")
    enters = dut.tiles.valid & dut.tiles.ready
    tile, shown = dut.tiles.payload, dut.operands.payload

    # What the ports say: tiles taken of the group that is loading, beats shown of the group that is presented, whole
    # groups held.
    beat_in, beat_out, groups = Signal(), Signal(), Signal(2)
    loaded, released = enters & beat_in, leaves & beat_out & (1 if wrong else ~keep)
    m.d.sync += groups.eq(groups + loaded - released)
    with m.If(enters):
        m.d.sync += beat_in.eq(~beat_in)
    with m.If(leaves):
        m.d.sync += beat_out.eq(~beat_out)
    h.claim("valid_iff_whole_group", dut.operands.valid == (groups != 0))
    h.claim("ready_iff_space", dut.tiles.ready == (groups != 2))

    # The token: one tile, its place in its group, the groups ahead of it.
    mark = h.free(1, "mark")
    held, seen = Signal(), Signal()
    place, ahead = Signal(), Signal(2)
    codes, scale, mode = Signal(8), Signal(16), Signal(WeightMode)
    with m.If(enters & mark & ~seen):
        m.d.sync += [
            seen.eq(1),
            held.eq(1),
            place.eq(beat_in),
            ahead.eq(groups - released),
            codes.eq(Value.cast(tile.codes)),
            scale.eq(tile.scales[0]),
            mode.eq(tile.mode),
        ]
    with m.Elif(held & released):
        m.d.sync += [ahead.eq(ahead - 1), held.eq(ahead != 0)]

    # Mode and scale count on a group's first tile, so they are checked where the token is one.
    due = held & (ahead == 0) & leaves & (beat_out == place)
    for lane in range(p.depth):
        code, operand = codes.word_select(lane, 4), shown.operands[0][lane]
        h.claim(
            f"lane_{lane}_is_the_token",
            ~due
            | Mux(shown.mode == WeightMode.MSB, operand == code.as_signed() * 2, 1)
            & Mux(shown.mode == WeightMode.LSB, operand == code, 1)
            & Mux(shown.mode == WeightMode.DRAFT, operand == code.as_signed() * 2 + 1, 1),
        )
    h.claim("scale_is_the_token", ~(due & ~place) | (shown.scales[0] == scale))
    h.claim("mode_is_the_token", ~(due & ~place) | (shown.mode == mode))
    h.cover("token_shown_again", due & keep & beat_out)
    h.cover("both_banks_full", groups == 2)

    # Invariants: the counts are the block's own registers, and the token lies where they say.
    full = h.probe(2, "dut.full")
    load_bank, show_bank = h.probe(1, "dut.load_bank"), h.probe(1, "dut.show_bank")
    bank = show_bank ^ ahead[0]
    stored = [h.probe(8, f"dut.column_0.codes_{b}_{beat}") for b in (0, 1) for beat in (0, 1)]
    scales = [h.probe(16, f"dut.column_0.scale_{b}") for b in (0, 1)]
    modes = [h.probe(WeightMode, f"dut.mode_{b}") for b in (0, 1)]
    h.claim("banks_hold_the_groups", full == Mux(groups == 2, 3, Mux(groups == 1, Mux(show_bank, 2, 1), 0)))
    h.claim("at_most_two_groups", groups <= 2)
    h.claim("load_bank_follows", load_bank == show_bank ^ groups[0])
    h.claim("load_beat_follows", h.probe(1, "dut.load_beat") == beat_in)
    h.claim("show_beat_follows", h.probe(1, "dut.show_beat") == beat_out)
    h.claim("no_beat_shown_of_nothing", ~beat_out | (groups != 0))
    h.claim(
        "token_is_stored_or_loading", ~held | (ahead < groups) | ((ahead == groups) & (groups != 2) & (beat_in > place))
    )
    for b in (0, 1):
        here = held & (bank == b)
        h.claim(f"token_tile_in_bank_{b}", ~here | (Mux(place, stored[2 * b + 1], stored[2 * b]) == codes))
        h.claim(f"token_scale_in_bank_{b}", ~(here & ~place) | ((scales[b] == scale) & (modes[b] == mode)))
    claim_progress(h, Value.cast(1), enters | leaves | ~dut.tiles.valid | ~dut.operands.ready, 0, "progress")
    return h


def mac_array(wrong: bool = False) -> Harness:
    """Beats come out in order with their own dot product, scale and tags, ``latency`` advances after they entered.

    ``wrong`` claims one advance less.
    """
    h = Harness(stubbed=True)
    m, p = h.m, TINY
    m.submodules.dut = dut = MacArray(p)
    drive(h, dut.weights, "weights")
    drive(h, dut.activations, "activations")
    leaves = claim_stable(h, dut.dots, "dots")
    weights, beat, out = dut.weights.payload, dut.activations.payload, dut.dots.payload
    enters = dut.weights.valid & dut.weights.ready
    h.claim("both_or_neither", enters == (dut.activations.valid & dut.activations.ready))
    h.claim("keep_of_the_entering_beat", dut.keep == beat.keep)

    # Beats inside, and the token's age in advances.
    latency = dut.latency
    inside = Signal(range(latency + 1))
    m.d.sync += inside.eq(inside + enters - leaves)
    advance = ~dut.dots.valid | dut.dots.ready
    mark = h.free(1, "mark")
    held, seen, age = Signal(), Signal(), Signal(range(latency + 1))
    operands = [Signal(value.shape(), name=f"token_operand_{k}") for k, value in enumerate(weights.operands[0])]
    values = [Signal(value.shape(), name=f"token_value_{k}") for k, value in enumerate(beat.values[0])]
    tags = {"mode": weights.mode, "chain": beat.chain, "first": beat.first, "last": beat.last}
    token = {name: Signal(Value.cast(value).shape(), name=f"token_{name}") for name, value in tags.items()}
    scale = Signal(16)
    with m.If(enters & mark & ~seen):
        m.d.sync += [seen.eq(1), held.eq(1), age.eq(0), scale.eq(weights.scales[0])]
        m.d.sync += [token[name].eq(value) for name, value in tags.items()]
        m.d.sync += [kept.eq(weights.operands[0][k]) for k, kept in enumerate(operands)]
        m.d.sync += [kept.eq(beat.values[0][k]) for k, kept in enumerate(values)]
    with m.Elif(held & advance):
        with m.If(age == latency - 1):
            m.d.sync += held.eq(0)
        with m.Else():
            m.d.sync += age.eq(age + 1)
    due = held & (age == latency - (2 if wrong else 1))
    products = [joined_product(operand, value) for operand, value in zip(operands, values, strict=True)]
    h.claim("token_is_there", ~due | dut.dots.valid)
    h.claim("token_dot", ~due | (out.dots[0][0] == sum(products)))
    h.claim("token_scale", ~due | (out.scales[0] == scale))
    for name, kept in token.items():
        h.claim(f"token_{name}_out", ~due | (Value.cast(out[name]) == kept))
    h.cover("token_leaves", due & leaves)
    h.cover("full_and_stalled", (inside == latency) & ~advance)

    # Invariants: as many valid bits as beats inside, and each stage holds the token's share of the work.
    valid = h.probe(latency, "dut.valid")
    h.claim("valid_bits_are_beats", sum(valid) == inside)
    h.claim("age_in_range", age < latency)
    stages = [
        {name: h.probe(kept.shape(), f"dut.{name}_{n}_q") for name, kept in token.items()} for n in range(latency)
    ]
    scales = [h.probe(16, f"dut.column_0.scale_{n}_q") for n in range(latency)]
    for n in range(latency):
        here = held & (age == n)
        h.claim(f"stage_{n}_valid", ~here | valid[n])
        h.claim(f"stage_{n}_scale", ~here | (scales[n] == scale))
        for name, kept in token.items():
            h.claim(f"stage_{n}_{name}", ~here | (stages[n][name] == kept))
    at_0, at_1 = held & (age == 0), held & (age == 1)
    h.claim("stage_0_operands", ~at_0 | (h.probe(10, "dut.column_0.operands_q") == Cat(operands)))
    h.claim("stage_0_activations", ~at_0 | (h.probe(16, "dut.activations_q") == Cat(values)))
    for k, product in enumerate(products):
        register = h.probe(product.shape(), f"dut.column_0.row_0.product_{k}_q")
        h.claim(f"stage_1_product_{k}", ~at_1 | (register == product))
    claim_progress(
        h, Value.cast(1), enters | leaves | ~dut.weights.valid | ~dut.activations.valid | ~dut.dots.ready, 0, "progress"
    )
    return h


class Token:
    """One result of the solver's choice: what it must be, and how many results leave before it."""

    def __init__(self, h: Harness, payload: Value, enters: Value, leaves: Value, most: int):
        """``payload`` is expected of the result that ``enters`` announces; ``most`` bounds the results in flight."""
        m = h.m
        self.in_flight = Signal(range(most + 1), name="results_in_flight")
        m.d.sync += self.in_flight.eq(self.in_flight + enters - leaves)
        h.claim("results_in_flight_fit", self.in_flight <= most)
        self.held, self.seen = Signal(name="token_held"), Signal(name="token_seen")
        self.ahead = Signal(range(most + 1), name="token_ahead")
        self.payload = Signal(len(payload), name="token_payload")
        with m.If(enters & h.free(1, "mark") & ~self.seen):
            m.d.sync += [self.seen.eq(1), self.held.eq(1), self.payload.eq(payload)]
            m.d.sync += self.ahead.eq(self.in_flight - leaves)
        with m.Elif(self.held & leaves):
            m.d.sync += [self.ahead.eq(self.ahead - 1), self.held.eq(self.ahead != 0)]
        self.due = self.held & (self.ahead == 0)


def group_accumulator(wrong: bool = False) -> Harness:
    """Every chain emits, for each of its rows in turn, the sum of exactly its groups, in the order they came.

    The reference adds a group to its chain at once, when the last beat enters. Two rows share the FP32 unit and two
    chains interleave freely. ``wrong`` claims that a group which starts a chain keeps the chain's old sum.
    """
    h = Harness(stubbed=True)
    m = h.m
    p = replace(TINY, rows=2, dots_per_fp32=2)
    m.submodules.dut = dut = GroupAccumulator(p)
    drive(h, dut.dots, "dots")
    leaves = claim_stable(h, dut.results, "results")
    beat, out = dut.dots.payload, dut.results.payload
    enters = dut.dots.valid & dut.dots.ready

    second = Signal()
    with m.If(enters):
        m.d.sync += second.eq(~second)
    complete = enters & second
    upper = (beat.mode == WeightMode.MSB) | (beat.mode == WeightMode.DRAFT)
    sums = []
    for row in range(2):
        earlier = Signal(signed(p.group_bits), name=f"earlier_{row}")
        with m.If(enters & ~second):
            m.d.sync += earlier.eq(beat.dots[0][row])
        total = Signal(signed(p.group_bits), name=f"total_{row}")
        m.d.comb += total.eq(earlier + beat.dots[0][row])
        term = joined_term(total, beat.scales[0], beat.mode == WeightMode.MXFP4, upper)
        chains = Array(Signal(32, name=f"chain_{n}_{row}") for n in range(2))
        before = chains[beat.chain] if wrong else Mux(beat.first, 0, chains[beat.chain])
        after = Signal(32, name=f"after_{row}")
        m.d.comb += after.eq(joined_sum(before, term))
        with m.If(complete):
            m.d.sync += chains[beat.chain].eq(after)
        sums.append(after)

    # A complete chain makes two results, slot 0 and slot 1; the token is the pair.
    slot = Signal()
    with m.If(leaves):
        m.d.sync += slot.eq(~slot)
    token = Token(h, Cat(*sums, beat.chain), complete & beat.last, leaves & slot, 5)
    h.claim("slots_in_turn", ~dut.results.valid | (out.slot == slot))
    h.claim("no_result_of_nothing", ~dut.results.valid | (token.in_flight != 0))
    here = token.due & dut.results.valid
    h.claim("token_sum", ~here | (out.values[0][0] == token.payload.word_select(slot, 32)))
    h.claim("token_chain", ~here | (out.chain == token.payload[-1]))
    h.cover("token_after_another_group_of_its_chain", here & leaves & slot & (token.payload[:32] != 0))
    h.cover("chain_waited_for_its_addition", dut.hazard_stalls != 0)
    claim_progress(h, (token.in_flight != 0) & dut.results.ready, leaves, 8, "result")
    claim_progress(h, dut.dots.valid & dut.results.ready, enters | leaves, 6, "beat")
    return h


def pe_array(wrong: bool = False) -> Harness:
    """From tiles and activations to chains: every activation beat meets the weight group it should, once.

    The reference keeps the tiles that were taken and not yet released, decodes the oldest for each activation beat,
    and adds to the chain at once. ``wrong`` releases a tile although ``keep`` asks for it again.
    """
    h = Harness(stubbed=True)
    m = h.m
    p = replace(TINY, group_size=2)
    m.submodules.dut = dut = PeArray(p)
    drive(h, dut.tiles, "tiles")
    drive(h, dut.activations, "activations")
    leaves = claim_stable(h, dut.results, "results")
    beat, out = dut.activations.payload, dut.results.payload
    loads = dut.tiles.valid & dut.tiles.ready
    enters = dut.activations.valid & dut.activations.ready

    # Tiles taken and not yet released, oldest first.
    tiles = [Signal(dut.tiles.payload.shape(), name=f"tile_{n}") for n in range(2)]
    count = Signal(2)
    release = enters & (1 if wrong else ~beat.keep)
    left = Signal(2)
    m.d.comb += left.eq(count - release)
    m.d.sync += count.eq(left + loads)
    for n in range(2):
        shifted = Value.cast(tiles[1]) if n == 0 else Const(0, len(Value.cast(tiles[1])))
        kept = Mux(release, shifted, Value.cast(tiles[n]))
        m.d.sync += Value.cast(tiles[n]).eq(Mux(loads & (left == n), Value.cast(dut.tiles.payload), kept))
    h.claim("a_beat_has_its_tile", ~enters | (count != 0))
    h.claim("at_most_two_tiles", count <= 2)

    tile = tiles[0]
    products = []
    for lane in range(p.depth):
        code, operand = tile.codes[0][lane], Signal(signed(5), name=f"operand_{lane}")
        with m.Switch(tile.mode):
            with m.Case(WeightMode.MSB):
                m.d.comb += operand.eq(code.as_signed() * 2)
            with m.Case(WeightMode.DRAFT):
                m.d.comb += operand.eq(code.as_signed() * 2 + 1)
            with m.Default():
                m.d.comb += operand.eq(code)
        products.append(joined_product(operand, beat.values[0][lane]))
    h.assume("modes_with_a_formula", Value.cast(dut.tiles.payload.mode) != WeightMode.MXFP4)
    dot, after = Signal(signed(p.group_bits)), Signal(32)
    chains = Array(Signal(32, name=f"chain_{n}") for n in range(2))
    term = joined_term(dot, tile.scales[0], Const(0), tile.mode != WeightMode.LSB)
    m.d.comb += [dot.eq(sum(products)), after.eq(joined_sum(Mux(beat.first, 0, chains[beat.chain]), term))]
    with m.If(enters):
        m.d.sync += chains[beat.chain].eq(after)

    token = Token(h, Cat(after, beat.chain), enters & beat.last, leaves, 8)
    h.claim("no_result_of_nothing", ~dut.results.valid | (token.in_flight != 0))
    here = token.due & dut.results.valid
    h.claim("token_sum", ~here | (out.values[0][0] == token.payload[:32]))
    h.claim("token_chain", ~here | (out.chain == token.payload[32]))
    h.cover("token_leaves", here & leaves)
    h.cover("tile_used_twice", enters & beat.keep)
    claim_progress(h, (token.in_flight != 0) & dut.results.ready, leaves, 10, "result")
    return h


def waiting_results(block: type) -> Harness:
    """Only the stream rule of the block's results, from any state at all, so for runs of any length."""
    h = Harness(stubbed=True)
    h.m.submodules.dut = dut = block(replace(TINY, rows=2, dots_per_fp32=2))
    for path, member, value in dut.signature.flatten(dut):
        if member.flow is In and path[0] != "results":
            h.m.d.comb += Value.cast(value).eq(h.free(len(Value.cast(value)), "__".join(map(str, path))))
    claim_stable(h, dut.results, "results")
    return h
