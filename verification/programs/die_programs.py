"""Programs for a die: one expert on its PEs in two mappings, and a short one in which every link operation occurs.

What a mapping exchanges between PEs goes from PE to PE here: maxima as a reduction, INT8 pieces as broadcasts in turn.
The host takes the last turn, so that what it sends behind an exchange arrives behind it.
"""

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from cycle_model.die import DieProgram, DieRun, Route, Sent
from cycle_model.numerics import QuantizedWeights, project, quantize_activations
from hw.isa.encoding import record_header
from hw.isa.program import PeProgram
from hw.params import ChipParams
from sw_stack.compiler.assembler import assemble
from sw_stack.compiler.expert_program import Share, read_rows
from sw_stack.compiler.tiles import code_words, scale_words, tile_rows
from verification.programs.expert_cases import ExpertCase, random_case

EXPERT_CREDITS = 1024
"""Words of a target's buffer for an expert: all that it gets."""
MAPPINGS = ("data-parallel", "output-parallel")


def _cut(words: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(words[start : start + size]) for start in range(0, len(words), size)]


def _alternating(parts: list[list[Sent]]) -> list[Sent]:
    """A source's chunks go in order; those for several PEs alternate, so that all wait for each other's."""
    return [sent for together in zip_longest(*parts) for sent in together if sent is not None]


def _link_words(program: PeProgram) -> tuple[list[int], list[int]]:
    stream, rows = ([word for chunk in link for word in chunk.words] for link in (program.stream, program.aggregation))
    return stream, rows


@dataclass(frozen=True)
class ExpertOnDie:
    """One expert on two tokens and two PEs: each PE a token, or each PE half of the outputs for both."""

    case: ExpertCase
    program: DieProgram
    mapping: str

    def rows(self, run: DieRun) -> np.ndarray:
        """uint32 [tokens, outputs] of the words that the host got."""
        chip = self.program.chip
        sent = words_by_source(self.program, run)[: chip.pes]
        if self.mapping == "data-parallel":
            return np.concatenate([read_rows(chip, out, 1, 32) for out in sent]).view(np.uint32)
        return np.concatenate([read_rows(chip, out, 2, 16) for out in sent], axis=1).view(np.uint32)


def words_by_source(program: DieProgram, run: DieRun) -> list[list[int]]:
    """Words that the host got, by the source of the aggregation link that sent them."""
    count = program.chip.pes
    heads = [0] * (count + 1)
    sent: list[list[int]] = [[] for _ in range(count + 1)]
    words = iter(word for _, word in run.to_host)
    for _, source in run.aggregation.grants:
        if source == count:
            continue  # the host
        route = program.routes[source][heads[source]]
        for member in range(count):
            heads[member] += route.members >> member & 1 if route.reduce else member == source
        if route.targets >> count & 1:
            sent[source] += [next(words) for _ in range(route.words)]
    assert next(words, None) is None
    return sent


def expert_on_die(chip: ChipParams, mapping: str) -> ExpertOnDie:
    """The program in the ``mapping`` of `MAPPINGS` for a chip of two PEs; the expert's weights are streamed."""
    assert chip.pes == 2
    case = random_case(8, outputs=64, hidden=32, experts=1, k=1, tokens=2)
    both, host = 0b11, 1 << chip.pes
    if mapping == "data-parallel":
        programs = [case.program(chip, "full", "stream", [token]) for token in range(2)]
        weights, rows = zip(*map(_link_words, programs), strict=True)
        assert weights[0] == weights[1], "both PEs have the same weights, so they are broadcast"
        chunks = _cut(weights[0], 16)
        # The two sources have every second chunk, and take turns, so that the words arrive in order.
        memory = tuple(
            tuple(
                Sent(0, both, chunk, members=both if i + 1 - source < len(chunks) else 0)
                for i, chunk in enumerate(chunks)
                if i % 2 == source
            )
            for source in range(2)
        )
        routes = [tuple(Route(host, 4) for _ in range(32 * chip.array.rows // chip.array.columns // 4))] * 2
        from_host = _alternating([[Sent(0, 1 << i, part) for part in _cut(each, 8)] for i, each in enumerate(rows)])
        return ExpertOnDie(
            case, DieProgram(chip, EXPERT_CREDITS, tuple(programs), memory, tuple(from_host), tuple(routes)), mapping
        )
    programs = [case.program(chip, "full", "stream", share=Share(i, 2)) for i in range(2)]
    weights, rows = zip(*map(_link_words, programs), strict=True)
    memory = tuple(tuple(Sent(0, 1 << i, part) for part in _cut(each, 16)) for i, each in enumerate(weights))
    results = 16 * chip.array.rows // chip.array.columns  # words: half of the outputs, all tokens
    pieces = 8 * chip.array.rows // chip.array.columns  # words of the group of a PE's share
    before = [each[: len(each) - results - 2 * pieces - 1] for each in rows]
    after = [each[len(each) - results :] for each in rows]
    everybody = both | host
    routes = [
        (
            Route(both, 1, reduce=True, members=both),
            Route(both, pieces, members=everybody),
            *(Route(host, 4) for _ in range(results // 4)),
        )
    ] * 2
    from_host = _alternating([[Sent(0, 1 << i, part) for part in _cut(each, 8)] for i, each in enumerate(before)])
    from_host.append(Sent(0, 1, tuple(after[0]), members=everybody))
    from_host.append(Sent(0, 2, tuple(after[1])))
    return ExpertOnDie(
        case, DieProgram(chip, EXPERT_CREDITS, tuple(programs), memory, tuple(from_host), tuple(routes)), mapping
    )


MSB_PE, LSB_PE, DRAFT_PE = range(3)


@dataclass(frozen=True)
class LinkTour:
    """A projection behind an exchange on three PEs, in which every operation of both links occurs.

    expected  uint32 [R, C] of the full projection, and of the draft
    """

    program: DieProgram
    expected: tuple[np.ndarray, np.ndarray]

    def rows(self, run: DieRun) -> tuple[np.ndarray, np.ndarray]:
        """What the host got."""
        sent = words_by_source(self.program, run)
        rows, columns = self.program.chip.array.rows, self.program.chip.array.columns
        full, draft = (read_rows(self.program.chip, sent[pe], rows, columns) for pe in (MSB_PE, DRAFT_PE))
        return full.view(np.uint32), draft.view(np.uint32)


def link_tour(chip: ChipParams, seed: int, credit_words: int = 64) -> LinkTour:
    """Random values and lateness, for a ``chip`` of three PEs.

    PE p holds 32 FP32 products of each token. Their maxima are reduced, their INT8 gathered by all three in turn, which
    makes 96 inputs. Then a tile of a projection: the first PE has the MSB chain, the second the LSB chain and sends it
    to the first to merge (the published split), the third the draft. Scales are broadcast, MSB codes multicast to the
    first and third, LSB codes unicast; the host gathers the results.
    """
    assert chip.pes == 3
    rng = np.random.default_rng(seed)
    rows, columns = chip.array.rows, chip.array.columns
    inputs = 32 * chip.pes
    product = rng.standard_normal((rows, inputs), np.float32)
    scale = (rng.random((columns, chip.pes), np.float32) / 1024).astype(np.float16)
    weights = QuantizedWeights(rng.integers(-127, 128, (columns, inputs), np.int8), scale)
    activations = quantize_activations(product)
    expected = tuple(project(weights, activations, draft=draft).view(np.uint32) for draft in (False, True))

    scales = scale_words(chip, scale.view(np.uint16))
    msb, lsb = code_words(chip, weights.msb_codes), code_words(chip, weights.lsb_codes)
    turns = 0b11  # of both memories: the LSB codes behind the scales
    late = [int(value) for value in rng.integers(0, 40, 2)]
    memory = (
        (
            Sent(late[0], 0b111, tuple(scales), members=turns),
            *(Sent(late[0], 1 << MSB_PE | 1 << DRAFT_PE, part) for part in _cut(msb, 4)),
        ),
        tuple(Sent(late[1], 1 << LSB_PE, part, 0 if i else turns) for i, part in enumerate(_cut(lsb, 4))),
    )
    own = [tile_rows(chip, product[:, 32 * pe : 32 * pe + 32]) for pe in range(chip.pes)]
    host = _alternating(
        [[Sent(int(rng.integers(0, 300)), 1 << pe, part) for part in _cut(words, 8)] for pe, words in enumerate(own)]
    )
    pes, to_host, pieces = 0b111, 1 << chip.pes, 8 * rows // columns
    exchange = (Route(pes, 1, reduce=True, members=pes), Route(pes, pieces, members=pes))
    last = {MSB_PE: to_host, LSB_PE: 1 << MSB_PE, DRAFT_PE: to_host}
    routes = tuple((*exchange, Route(last[pe], rows)) for pe in range(chip.pes))
    programs = tuple(_tour_of(chip, pe, len(own[pe]), len(scales), len(msb), pieces) for pe in range(chip.pes))
    return LinkTour(DieProgram(chip, credit_words, programs, memory, tuple(host), routes), expected)


def _tour_of(chip: ChipParams, pe: int, rows: int, scales: int, codes: int, pieces: int) -> PeProgram:
    """The kernel of one PE; ``rows`` of its products, words of scales, codes, and of its INT8 pieces."""
    tokens = chip.array.rows
    mode = {MSB_PE: "MSB", LSB_PE: "LSB", DRAFT_PE: "DRAFT"}[pe]
    ends = {
        MSB_PE: f"""    gather.load LT[0], n={tokens}
    wait
    vector.add d=VT[0], a=RT[0], b=LT[0], n={tokens}
    vector.mul d=XM[0], a=VT[0], b=ROW[3], n={tokens}
""",
        LSB_PE: f"    vector.move d=XM[0], a=RT[0], n={tokens}\n",
        DRAFT_PE: f"    vector.mul d=XM[0], a=RT[0], b=ROW[3], n={tokens}\n",
    }
    text = f"""
.kernel tour
    gather.load LT[0], n={rows}
    stream.load d=WL[0], n={scales}
    stream.load d=WL[{scales}], n={codes}
    wait
    vector.move d=VT[0], a=LT[0], n={rows}
    vector.row_absmax VT[0], n={tokens}, row=0, first
    vector.row_absmax VT[{tokens}], n={rows - tokens}, row=0
    vector.row_store XM[0], row_a=0
    wait
    store XM[0], n=1
    gather.load LT[0], n=1
    wait
    vector.row_load LT[0], row=1
    vector.row_reciprocal row=2, row_a=1
    vector.row_scale row=3, row_a=1
    vector.quantize d=XM[0], a=VT[0], n={rows}, row_b=2
    wait
    store XM[0], n={pieces}
    gather.load AL[0], n={pieces * chip.pes}
    wait
    array.matmul d=RT[0], a=AL[0], w=WL[{scales}], s=WL[0], n={chip.pes}, m=1, mode={mode}, chain=0, first, last
    wait
{ends[pe]}    wait
    store XM[0], n={tokens}
    return
"""
    assembly = assemble(text, f"link tour of PE {pe}")
    return PeProgram(chip, assembly.instructions, dispatch=[record_header(assembly.kernels["tour"], 0)])
