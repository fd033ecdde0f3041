"""Proofs about the vector unit's arithmetic: FP32 product, maximum and minimum, rounding to INT8, for all inputs."""

from collections.abc import Callable
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.pe.vector.fp32_compare import extremum
from hw.pe.vector.fp32_multiplier import Fp32Multiplier
from hw.pe.vector.quantizer import Int8Rounder
from verification.formal.arithmetic import sequence
from verification.formal.property import Answer, Harness, Outcome, Property, miter

_OPERANDS = """
(define-fun a () (_ BitVec 32) (|top_n a| s0))
(define-fun b () (_ BitVec 32) (|top_n b| s0))
(define-fun value_a () (_ FloatingPoint 8 24) ((_ to_fp 8 24) a))
(define-fun value_b () (_ FloatingPoint 8 24) ((_ to_fp 8 24) b))
(define-fun special () Bool (or (= ((_ extract 30 23) a) #xFF) (= ((_ extract 30 23) b) #xFF)))
(define-fun nan () Bool (or (fp.isNaN value_a) (fp.isNaN value_b)))
"""

# A finite number is an integer below 2^24 times 2^(exponent - 150), exponent 1 or more: `_reading` has the solver
# agree. The product of two such integers is below 2^48 and so exact in binary64, as is its power of two (2^-298 to
# 2^208): the only rounding is the conversion to binary32. The integer product is the same term as in the RTL, so the
# proof is about everything around it.
_FIELDS = """
(define-fun field_a () (_ BitVec 8) ((_ extract 30 23) a))
(define-fun field_b () (_ BitVec 8) ((_ extract 30 23) b))
(define-fun integer_a () (_ BitVec 24) (concat (ite (= field_a #x00) #b0 #b1) ((_ extract 22 0) a)))
(define-fun integer_b () (_ BitVec 24) (concat (ite (= field_b #x00) #b0 #b1) ((_ extract 22 0) b)))
(define-fun exponent_a () (_ BitVec 11) (concat #b000 (ite (= field_a #x00) #x01 field_a)))
(define-fun exponent_b () (_ BitVec 11) (concat #b000 (ite (= field_b #x00) #x01 field_b)))
"""
_READING = """
(define-fun power_a () (_ FloatingPoint 11 53) (fp #b0 (bvadd exponent_a (_ bv873 11)) (_ bv0 52)))
(define-fun magnitude () (_ FloatingPoint 11 53) (fp.mul RNE ((_ to_fp_unsigned 11 53) RNE integer_a) power_a))
(define-fun wrong () Bool (and (not special) (not (= ((_ to_fp 11 53) RNE (fp.abs value_a)) magnitude))))
"""
_FINITE = """
(define-fun product () (_ BitVec 32) (|top_n product| s1))
(define-fun integer () (_ BitVec 48) (bvmul (concat (_ bv0 24) integer_a) (concat (_ bv0 24) integer_b)))
(define-fun power () (_ FloatingPoint 11 53) (fp #b0 (bvadd (bvadd exponent_a exponent_b) (_ bv723 11)) (_ bv0 52)))
(define-fun exact () (_ FloatingPoint 11 53) (fp.mul RNE ((_ to_fp_unsigned 11 53) RNE integer) power))
(define-fun negative () Bool (not (= ((_ extract 31 31) a) ((_ extract 31 31) b))))
(define-fun expected () (_ FloatingPoint 8 24) ((_ to_fp 8 24) {rounding} (ite negative (fp.neg exact) exact)))
(define-fun wrong () Bool (and (not special) (not (= ((_ to_fp 8 24) product) expected))))
"""
_SPECIAL = """
(define-fun product () (_ BitVec 32) (|top_n product| s1))
(define-fun expected () (_ BitVec 32) (ite (or nan (fp.isZero value_a) (fp.isZero value_b)) #x7FC00000
  (concat (bvxor ((_ extract 31 31) a) ((_ extract 31 31) b)) #b1111111100000000000000000000000)))
(define-fun wrong () Bool (and special (not (= product expected))))
"""

_EXTREMUM = """
(define-fun result () (_ BitVec 32) (|top_n result| s0))
(define-fun b_wins () Bool (ite (|top_n minimum| s0) ({less} value_b value_a) ({greater} value_b value_a)))
(define-fun wrong () Bool (not (= result (ite nan #x7FC00000 (ite b_wins b a)))))
"""

_ROUNDING = """
(define-fun value () (_ FloatingPoint 8 24) ((_ to_fp 8 24) (|top_n value| s0)))
(define-fun rounded () (_ BitVec 8) (|top_n rounded| s1))
(define-fun small () Bool (fp.lt (fp.abs value) (fp #b0 #x86 (_ bv0 23))))
(define-fun whole () (_ BitVec 9) ((_ fp.to_sbv 9) {rounding} value))
(define-fun limit () (_ BitVec 8) (ite (fp.isNegative value) #x81 #x7F))
(define-fun clipped () (_ BitVec 8) (ite (and small (bvsle whole (_ bv127 9)) (bvsge whole (bvneg (_ bv127 9))))
  ((_ extract 7 0) whole) limit))
(define-fun wrong () Bool (not (= rounded (ite (fp.isNaN value) #x00 clipped))))
"""


class _Extremum(wiring.Component):
    """`extremum` as a block."""

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "minimum": In(1), "result": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.result.eq(extremum(self.a, self.b, self.minimum))
        return m


def product(definitions: str) -> Callable[[Path], Outcome]:
    """The multiplier with one register gives what ``definitions`` call expected."""

    def decide(trace: Path) -> Outcome:
        return miter(sequence(Fp32Multiplier(1), advance=1), 1, _OPERANDS + definitions, "wrong", trace)

    return decide


def _reading(trace: Path) -> Outcome:
    harness = Harness()
    for name in "ab":
        harness.output(name, harness.free(32, f"{name}_in"))
    return miter(harness, 0, _OPERANDS + _FIELDS + _READING, "wrong", trace)


def extrema(less: str = "fp.lt", greater: str = "fp.gt") -> Callable[[Path], Outcome]:
    """Maximum and minimum; other comparisons than strict ones are false claims, since zeros of unlike sign give a."""

    def decide(trace: Path) -> Outcome:
        return miter(sequence(_Extremum()), 0, _OPERANDS + _EXTREMUM.format(less=less, greater=greater), "wrong", trace)

    return decide


def rounding(mode: str = "RNE") -> Callable[[Path], Outcome]:
    """FP32 to INT8; another ``mode`` than RNE is a false claim."""

    def decide(trace: Path) -> Outcome:
        return miter(sequence(Int8Rounder(), advance=1), 1, _ROUNDING.format(rounding=mode), "wrong", trace)

    return decide


def _false(name: str, statement: str, decide: Callable[[Path], Outcome]) -> Property:
    return Property(
        name=f"false-{name}",
        statement=statement,
        method="must be refuted",
        decide=decide,
        expect=Answer.REFUTED,
        quick=True,
    )


_ALL = "all inputs"
PROPERTIES = (
    Property(name="fp32-fields", statement="|a| = integer x 2^k", method=_ALL, decide=_reading, quick=True),
    Property(
        name="multiply-finite",
        statement="a x b = exact product rounded once",
        method="finite a, b",
        decide=product(_FIELDS + _FINITE.format(rounding="RNE")),
    ),
    Property(
        name="multiply-special",
        statement="infinities, NaN and their products",
        method="all others",
        decide=product(_SPECIAL),
        quick=True,
    ),
    Property(
        name="extremum", statement="max, min = b if it wins, else a; NaN", method=_ALL, decide=extrema(), quick=True
    ),
    Property(name="int8-rounding", statement="clip(rne(x)), NaN 0", method=_ALL, decide=rounding(), quick=True),
    _false("multiply", "a x b rounds toward zero", product(_FIELDS + _FINITE.format(rounding="RTZ"))),
    _false("extremum", "equal numbers give b", extrema("fp.leq", "fp.geq")),
    _false("int8-rounding", "rounds toward zero", rounding("RTZ")),
)
