"""All properties, in the order of the table. Each class has one that is false and must be refuted."""

from collections.abc import Callable
from pathlib import Path

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.group_accumulator import GroupAccumulator
from hw.array.pe_array import PeArray
from verification.formal import arithmetic, memory, streams, vector
from verification.formal.property import Answer, Harness, Outcome, Property, bounded, induction

Decide = Callable[[Path], Outcome]

# The four cases of an addition: like signs, and unlike signs by the distance of the exponents. Together all operands.
_LIKE = "(= ((_ extract 31 31) a) ((_ extract 31 31) b))"
_FIELD_A, _FIELD_B = ("(concat #b00 ((_ extract 30 23) a))", "(concat #b00 ((_ extract 30 23) b))")
_A_FAR = f"(bvugt {_FIELD_A} (bvadd {_FIELD_B} (_ bv1 10)))"
_B_FAR = f"(bvugt {_FIELD_B} (bvadd {_FIELD_A} (_ bv1 10)))"
_NEAR = f"(not (or {_A_FAR} {_B_FAR}))"


def _steps(make: Callable[[], Harness], depth: int) -> Decide:
    return lambda trace: bounded(make(), depth, trace)


def _inductive(make: Callable[[], Harness], depth: int) -> Decide:
    return lambda trace: induction(make(), 1, depth, trace)


def _true(name: str, statement: str, method: str, decide: Decide, quick: bool = False) -> Property:
    return Property(name=name, statement=statement, method=method, decide=decide, quick=quick)


def _false(name: str, statement: str, decide: Decide, quick: bool = True) -> Property:
    method = "must be refuted"
    return Property(
        name=f"false-{name}", statement=statement, method=method, decide=decide, expect=Answer.REFUTED, quick=quick
    )


_ALL = "all inputs"

PROPERTIES: tuple[Property, ...] = (
    _true("recombination", "8 (2h) a + l a = q a", _ALL, _steps(arithmetic.recombination, 1), quick=True),
    _true("draft", "8 (2h + 1) a = (16 h + 8) a", _ALL, _steps(arithmetic.draft, 1), quick=True),
    _true("mxfp4", "product = 2 E2M1(code) a", _ALL, _steps(arithmetic.mxfp4, 1), quick=True),
    _false("recombination", "4 (2h) a + l a = q a", _steps(lambda: arithmetic.recombination(True), 1)),
    _false("draft", "8 (2h + 1) a = (16 h + 7) a", _steps(lambda: arithmetic.draft(True), 1)),
    _true("fp16-fields", "FP16 scale = significand x 2^k", _ALL, arithmetic.fp16_reading, quick=True),
    _true("scale-fp16", "rne(dot x 8^k x FP16), 18-bit dot", _ALL, arithmetic.multiplier(False, 32)),
    _true("scale-e8m0", "rne(dot x 8^k x E8M0), 18-bit dot", _ALL, arithmetic.multiplier(True, 32)),
    _true("scale-e8m0-small", "the same, 14-bit dot", _ALL, arithmetic.multiplier(True, 2), quick=True),
    _false("scale", "E8M0 without the factor 1/2", arithmetic.multiplier(True, 2, bias_error=1)),
    _true("add-like-signs", "a + b = IEEE 754 sum", "like signs", arithmetic.adder(_LIKE)),
    _true("add-a-far", "a + b = IEEE 754 sum", "unlike, a larger", arithmetic.adder(f"(and (not {_LIKE}) {_A_FAR})")),
    _true("add-b-far", "a + b = IEEE 754 sum", "unlike, b larger", arithmetic.adder(f"(and (not {_LIKE}) {_B_FAR})")),
    _true("add-near", "a + b = IEEE 754 sum", "unlike, near", arithmetic.adder(f"(and (not {_LIKE}) {_NEAR})")),
    _false("add", "a + b rounds toward zero", arithmetic.adder(rounding="RTZ")),
    *(
        _true(
            f"add-{n}-stages",
            f"{n} registers change no sum",
            f"{n + 2} steps",
            _steps(lambda n=n: arithmetic.stages_agree(Fp32Adder, "add_stages", n), n + 2),
        )
        for n in (2, 3, 4, 5)
    ),
    *(
        _true(
            f"scale-{n}-stages",
            f"{n} registers change no product",
            f"{n + 2} steps",
            _steps(lambda n=n: arithmetic.stages_agree(ScaleMultiplier, "scale_stages", n), n + 2),
        )
        for n in (2, 3)
    ),
    _true(
        "weight-feed",
        "groups whole, in order, kept as asked",
        "induction k=1",
        _inductive(streams.weight_feed, 6),
        quick=True,
    ),
    _true("mac-array", "beats in order with their dots", "induction k=1", _inductive(streams.mac_array, 6), quick=True),
    _true(
        "accumulator-waits",
        "waiting results stay",
        "induction k=1",
        _inductive(lambda: streams.waiting_results(GroupAccumulator), 9),
        quick=True,
    ),
    _true(
        "pe-array-waits",
        "waiting results stay",
        "induction k=1",
        _inductive(lambda: streams.waiting_results(PeArray), 13),
    ),
    _true("accumulator", "chains sum their groups, in order", "11 steps", _steps(streams.group_accumulator, 11)),
    _true("pe-array", "beats meet their weights, once", "14 steps", _steps(streams.pe_array, 14)),
    _false("weight-feed", "keep is ignored", _steps(lambda: streams.weight_feed(True), 8)),
    _false("mac-array", "one advance less", _steps(lambda: streams.mac_array(True), 6)),
    _false("accumulator", "first keeps the old sum", _steps(lambda: streams.group_accumulator(True), 9)),
    _false("pe-array", "keep is ignored", _steps(lambda: streams.pe_array(True), 6)),
    *memory.PROPERTIES,
    *vector.PROPERTIES,
)


def by_name(name: str) -> Property:
    """The property called ``name``."""
    return next(prop for prop in PROPERTIES if prop.name == name)
