"""Arithmetic proofs: slices recombine, draft identity, MXFP4, FP32 adder and scale multiplier against IEEE 754."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from amaranth.hdl import Array, Const, Signal, Value, signed
from amaranth.lib import wiring

from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.slice_mac import SliceMac
from hw.array.weight_feed import WeightDecoder
from hw.isa import WeightMode
from hw.params import ArrayParams
from hw.pipeline import cut
from verification.formal.property import Harness, Outcome, miter

LANE = ArrayParams(rows=1, columns=1, depth=2, group_size=2)

# OCP Microscaling Formats v1.0, table of E2M1 values (0 0.5 1 1.5 2 3 4 6), doubled.
TWICE_E2M1 = (0, 1, 2, 3, 4, 6, 8, 12)


def _product(h: Harness, name: str, code, mode: WeightMode, activation):
    """The RTL's product of one stored code and one activation: decoder, then slice MAC."""
    decoder, mac = WeightDecoder(LANE), SliceMac(LANE)
    h.m.submodules[f"{name}_decoder"] = decoder
    h.m.submodules[f"{name}_mac"] = mac
    h.m.d.comb += [
        decoder.codes[0].eq(code),
        decoder.mode.eq(mode),
        mac.operand.eq(decoder.operands[0]),
        mac.activation.eq(activation),
    ]
    return mac.product


def recombination(wrong: bool = False) -> Harness:
    """8 (2h) a + l a = q a through the RTL; ``wrong`` weighs the upper slice 4."""
    h = Harness()
    weight, activation = h.free(signed(8), "weight"), h.free(signed(8), "activation")
    msb = _product(h, "msb", weight[4:], WeightMode.MSB, activation)
    lsb = _product(h, "lsb", weight[:4], WeightMode.LSB, activation)
    upper_weight = 4 if wrong else 8
    h.claim("recombines", msb * upper_weight + lsb == weight * activation)
    return h


def draft(wrong: bool = False) -> Harness:
    """8 (2h + 1) a = (16 h + 8) a through the RTL; ``wrong`` puts the middle at 7."""
    h = Harness()
    weight, activation = h.free(signed(8), "weight"), h.free(signed(8), "activation")
    draft = _product(h, "draft", weight[4:], WeightMode.DRAFT, activation)
    truncated = weight[4:].as_signed() * 16
    middle = 7 if wrong else 8
    h.claim("draft_is_middle", draft * 8 == (truncated + middle) * activation)
    return h


def mxfp4() -> Harness:
    """An MXFP4 code's product is twice the standard's value times the activation."""
    h = Harness()
    code, activation = h.free(4, "code"), h.free(signed(8), "activation")
    product = _product(h, "mxfp4", code, WeightMode.MXFP4, activation)
    values = Array(Const(v, signed(5)) for v in (*TWICE_E2M1, *(-v for v in TWICE_E2M1)))
    h.claim("is_twice_e2m1", product == values[code] * activation)
    return h


def sequence(component: wiring.Component, **fixed: int) -> Harness:
    """A pipelined unit with free inputs except the ``fixed`` ones; states s0 .. s<latency> hold one operation."""
    h = Harness()
    h.m.submodules.dut = component
    for path, member, value in component.signature.flatten(component):
        name = "__".join(map(str, path))
        if member.flow is wiring.Out:
            h.output(name, value)
        else:
            h.m.d.comb += value.eq(fixed[name] if name in fixed else h.free(len(value), name))
    return h


# IEEE 754 binary32 sum by the solver's own arithmetic. "=" on floating-point numbers tells +0 from -0 and takes all
# NaN encodings as one, so the canonical encoding is asked for on its own.
_ADDITION = """
(define-fun a () (_ BitVec 32) (|top_n a| s0))
(define-fun b () (_ BitVec 32) (|top_n b| s0))
(define-fun total () (_ BitVec 32) (|top_n total| s{last}))
(define-fun expected () (_ FloatingPoint 8 24) (fp.add {rounding} ((_ to_fp 8 24) a) ((_ to_fp 8 24) b)))
(define-fun wrong () Bool (or
  (not (= ((_ to_fp 8 24) total) expected))
  (and (fp.isNaN expected) (not (= total #x7FC00000)))))
"""


def adder(given: str = "true", rounding: str = "RNE") -> Callable[[Path], Outcome]:
    """The adder is IEEE 754 binary32 addition for all operands with ``given``; one stage, as cuts do not change values.

    Another ``rounding`` than RNE is a false claim.
    """

    def decide(trace: Path) -> Outcome:
        params = ArrayParams(rows=1, columns=1, depth=2, add_stages=1)
        harness = sequence(Fp32Adder(params), advance=1)
        definitions = _ADDITION.format(last=1, rounding=rounding)
        return miter(harness, 1, definitions, f"(and wrong {given})", trace)

    return decide


# The exact value is an integer times a power of two: |dot| x significand (x 8), below 2^35 and so exact in binary64,
# times a binary64 power of two. The only rounding is the last conversion, to binary32. The integer product is the
# same term as in the RTL, so the proof is about everything around it: signs, exponents, normalising, rounding.
# E8M0 carries the factor 1/2 of the doubled E2M1 operands: 2^(e - 127) / 2.
_SCALING = """
(define-fun scale () (_ BitVec 16) (|top_n scale| s0))
(define-fun dot () (_ BitVec {bits}) (|top_n dot| s0))
(define-fun product () (_ BitVec 32) (|top_n product| s{last}))
(define-fun negative () Bool (= ((_ extract {top} {top}) dot) #b1))
(define-fun integer () (_ BitVec {wide}) (bvmul
  (concat (_ bv0 11) (ite negative (bvneg dot) dot))
  (concat (_ bv0 {bits}) significand)))
(define-fun weighed () (_ FloatingPoint 11 53) ((_ to_fp_unsigned 11 53) RNE
  (ite (|top_n times_8| s0) (concat integer #b000) (concat #b000 integer))))
(define-fun exact () (_ FloatingPoint 11 53) (fp.mul RNE weighed power))
(define-fun expected () (_ FloatingPoint 8 24)
  ((_ to_fp 8 24) RNE (ite (xor negative scale_negative) (fp.neg exact) exact)))
(define-fun wrong () Bool (or
  (not (= ((_ to_fp 8 24) product) expected))
  (and (fp.isNaN expected) (not (= product #x7FC00000)))))
"""
_E8M0 = """
(define-fun significand () (_ BitVec 11) (_ bv1 11))
(define-fun scale_negative () Bool false)
(define-fun power () (_ FloatingPoint 11 53) (ite (= ((_ extract 7 0) (|top_n scale| s0)) #xFF) (_ NaN 11 53)
  (fp #b0 (bvadd (concat #b000 ((_ extract 7 0) (|top_n scale| s0))) (_ bv{bias} 11)) (_ bv0 52))))
"""
_FP16 = """
(define-fun field () (_ BitVec 5) ((_ extract 14 10) (|top_n scale| s0)))
(define-fun significand () (_ BitVec 11)
  (concat (ite (= field #b00000) #b0 #b1) ((_ extract 9 0) (|top_n scale| s0))))
(define-fun scale_negative () Bool (= ((_ extract 15 15) (|top_n scale| s0)) #b1))
(define-fun power () (_ FloatingPoint 11 53) (ite (= field #b11111)
  (ite (= significand (_ bv1024 11)) (_ +oo 11 53) (_ NaN 11 53))
  (fp #b0 (bvadd (_ bv{bias} 11) (concat #b000000 (ite (= field #b00000) #b00001 field))) (_ bv0 52))))
"""
# That this reading of FP16 is the solver's own: significand x power = to_fp 5 11 of the bits.
_FP16_READING = """
(define-fun magnitude () (_ FloatingPoint 11 53) (fp.mul RNE ((_ to_fp_unsigned 11 53) RNE significand) power))
(define-fun wrong () Bool (not (=
  ((_ to_fp 11 53) RNE ((_ to_fp 5 11) (|top_n scale| s0)))
  (ite scale_negative (fp.neg magnitude) magnitude))))
"""


def multiplier(e8m0: bool, group_size: int, bias_error: int = 0) -> Callable[[Path], Outcome]:
    """The scale multiplier rounds the exact product once, for every dot product and scale of one format.

    ``bias_error`` other than 0 claims a false exponent.
    """

    def decide(trace: Path) -> Outcome:
        params = ArrayParams(rows=1, columns=1, depth=2, group_size=group_size, scale_stages=1)
        harness = sequence(ScaleMultiplier(params), advance=1, e8m0=int(e8m0))
        bits = params.group_bits
        bias = 1023 - (128 if e8m0 else 25) + bias_error
        definitions = (_E8M0 if e8m0 else _FP16).format(bias=bias)
        definitions += _SCALING.format(last=1, bits=bits, top=bits - 1, wide=bits + 11)
        return miter(harness, 1, definitions, "wrong", trace)

    return decide


def fp16_reading(trace: Path) -> Outcome:
    """The fields that `multiplier` reads from an FP16 scale give the value that the solver gives it."""
    harness = Harness()
    harness.output("scale", harness.free(16, "scale_in"))
    return miter(harness, 0, _FP16.format(bias=1023 - 25) + _FP16_READING, "wrong", trace)


def stages_agree(unit: type, field: str, stages: int) -> Harness:
    """A unit with ``stages`` registers gives what one with a single register gives, ``stages - 1`` cycles later."""
    h = Harness()
    params = ArrayParams(rows=1, columns=1, depth=2, group_size=2)
    deep, flat = unit(replace(params, **{field: stages})), unit(replace(params, **{field: 1}))
    h.m.submodules.deep, h.m.submodules.flat = deep, flat
    for path, member, value in flat.signature.flatten(flat):
        name = "__".join(map(str, path))
        if member.flow is wiring.In:
            source = Const(1) if name == "advance" else h.free(len(Value.cast(value)), name)
            h.m.d.comb += [value.eq(source), getattr(deep, name).eq(source)]
            continue
        delayed, cycles = value, Signal(range(stages + 1))
        for n in range(stages - 1):
            delayed = getattr(cut(h.m, Const(1), True, **{f"delayed_{n}": delayed}), f"delayed_{n}")
        with h.m.If(cycles != stages):
            h.m.d.sync += cycles.eq(cycles + 1)
        h.claim("same_result", (cycles != stages) | (getattr(deep, name) == delayed))
        h.cover("pipeline_full", cycles == stages)
    return h
