"""Mistakes in the arithmetic array and its numerics that an engineer could make; each must make a test fail."""

from verification.faults.fault import Fault, Target

_BLOCKS = "verification/blocks"
_INTERFACES = f"{_BLOCKS}/test_array_interfaces.py"
_MULTIPLIER = "hw/array/slice_mac.py"
_DOT = "hw/array/dot_product.py"
_FEED = "hw/array/weight_feed.py"
_MACS = "hw/array/mac_array.py"
_FP32 = "hw/array/fp32.py"
_ACCUMULATOR = "hw/array/group_accumulator.py"
_PE = "hw/array/pe_array.py"
_PIPELINE = "hw/pipeline.py"
_NUMERICS = "cycle_model/numerics.py"
_FORMATS = "cycle_model/formats.py"
_QUANTIZATION = "cycle_model/quantization.py"

TARGETS = (
    Target("slice_mac", _MULTIPLIER, (_INTERFACES, f"{_BLOCKS}/test_slice_mac.py")),
    Target("dot_product", _DOT, (_INTERFACES, f"{_BLOCKS}/test_dot_product.py")),
    Target("weight_feed", _FEED, (_INTERFACES, f"{_BLOCKS}/test_slice_mac.py", f"{_BLOCKS}/test_weight_feed.py")),
    Target("mac_array", _MACS, (_INTERFACES, f"{_BLOCKS}/test_mac_array.py")),
    Target("fp32", _FP32, (_INTERFACES, f"{_BLOCKS}/test_fp32_corners.py", f"{_BLOCKS}/test_fp32.py")),
    Target(
        "group_accumulator",
        _ACCUMULATOR,
        (_INTERFACES, f"{_BLOCKS}/test_group_accumulator.py", f"{_BLOCKS}/test_group_accumulator_corners.py"),
    ),
    Target("pe_array", _PE, (f"{_BLOCKS}/test_pe_array.py",)),
    Target("pipeline", _PIPELINE, (f"{_BLOCKS}/test_dot_product.py", f"{_BLOCKS}/test_fp32.py")),
    Target("numerics", _NUMERICS, (f"{_BLOCKS}/test_numerics_chains.py",)),
    Target("formats", _FORMATS, (f"{_BLOCKS}/test_numerics_formats.py", f"{_BLOCKS}/test_numerics_chains.py")),
    Target("quantization", _QUANTIZATION, (f"{_BLOCKS}/test_numerics_quantization.py",)),
)

_WEIGHTS = (
    Fault(
        name="augment-bit-missing",
        file=_FEED,
        before="operand.eq(Cat(1, code))",
        after="operand.eq(Cat(0, code))",
        reason="The draft becomes plain truncation: 2h instead of 2h + 1.",
    ),
    Fault(
        name="augment-bit-in-full-mode",
        file=_FEED,
        before="operand.eq(Cat(0, code))",
        after="operand.eq(Cat(1, code))",
        reason="The upper slice of the full product is off by half a step.",
    ),
    Fault(
        name="lsb-slice-signed",
        file=_FEED,
        before="operand.eq(Cat(code, 0))",
        after="operand.eq(Cat(code, code[-1]))",
        reason="The lower slice is unsigned; signed, it loses 16 from every l above 7.",
    ),
    Fault(
        name="mxfp4-subnormal-as-normal",
        file=_FEED,
        before="Mux(exponent == 0, mantissa, Cat(mantissa, 1) << (exponent - 1)[:2])[:4]",
        after="(Cat(mantissa, 1) << (exponent - 1)[:2])[:4]",
        reason="E2M1's 0 and 0.5 get a hidden one.",
    ),
    Fault(
        name="mxfp4-sign-lost",
        file=_FEED,
        before="return Mux(sign, -magnitude, magnitude)",
        after="return Mux(sign, magnitude, magnitude)",
        reason="Negative E2M1 codes become positive.",
    ),
    Fault(
        name="double-buffer-overwritten",
        file=_FEED,
        before="self.tiles.ready.eq(~full.bit_select(load_bank, 1))",
        after="self.tiles.ready.eq(1)",
        reason="Without backpressure a tile overwrites the group that is still being presented.",
    ),
    Fault(
        name="keep-ignored",
        file=_FEED,
        before="with m.If(~self.keep):",
        after="with m.If(1):",
        reason="A weight group that several token blocks need is presented once.",
    ),
    Fault(
        name="group-shown-while-loading",
        file=_FEED,
        before="(full | (loaded << load_bank))",
        after="(full | (load.any() << load_bank))",
        reason="The bank counts as full after its first tile; later beats show old weights.",
    ),
    Fault(
        name="scale-of-last-beat",
        file=_FEED,
        before="with m.If(self.load[0]):",
        after="with m.If(self.load[-1]):",
        reason="The scale counts on a group's first beat, not its last.",
    ),
    Fault(
        name="mode-of-the-other-bank",
        file=_FEED,
        before="column.mode.eq(modes[show_bank]),",
        after="column.mode.eq(modes[load_bank]),",
        reason="Modes switch per tile; the shown group is decoded in the loading group's mode.",
    ),
)

_MAC = (
    Fault(
        name="activation-sign-lost",
        file=_MULTIPLIER,
        before='"activation": In(signed(params.activation_bits))',
        after='"activation": In(params.activation_bits)',
        reason="Missing sign extension: -1 multiplies as 255.",
    ),
    Fault(
        name="operand-sign-lost",
        file=_MULTIPLIER,
        before='"operand": In(signed(params.operand_bits))',
        after='"operand": In(params.operand_bits)',
        reason="Missing sign extension: -16 multiplies as 16.",
    ),
    Fault(
        name="product-one-bit-short",
        file=_MULTIPLIER,
        before='"product": Out(signed(params.product_bits))',
        after='"product": Out(signed(params.product_bits - 1))',
        reason="-16 x -128 = 2048 wraps to -2048.",
    ),
    Fault(
        name="tree-drops-a-lane",
        file=_DOT,
        before="values[2 * i] + values[2 * i + 1]",
        after="values[2 * i] + values[2 * i]",
        reason="Every other product is counted twice, its neighbour never.",
    ),
    Fault(
        name="tree-stage-unregistered",
        file=_DOT,
        before="registered = n % p.tree_levels_per_stage == 0 or n == levels",
        after="registered = n == levels",
        reason="The tree is faster than its stated latency; scale and tags arrive too late.",
    ),
    Fault(
        name="product-ignores-hold",
        file=_DOT,
        before='self.advance, True, **{f"product_{k}": mac.product}',
        after='1, True, **{f"product_{k}": mac.product}',
        reason="While the array holds, the products go on and a beat is lost.",
    ),
    Fault(
        name="beat-enters-without-activations",
        file=_MACS,
        before="enter.eq(self.weights.valid & self.activations.valid & advance)",
        after="enter.eq(self.weights.valid & advance)",
        reason="A beat of weights without activations counts as computed.",
    ),
    Fault(
        name="weights-taken-alone",
        file=_MACS,
        before="self.weights.ready.eq(self.activations.valid & advance)",
        after="self.weights.ready.eq(advance)",
        reason="Weights are consumed while the activations are late.",
    ),
    Fault(
        name="stall-drops-a-beat",
        file=_MACS,
        before="advance.eq(~self.dots.valid | self.dots.ready)",
        after="advance.eq(1)",
        reason="A result that waits for its consumer is overwritten.",
    ),
    Fault(
        name="scale-one-stage-early",
        file=_MACS,
        before="for stage in range(mac_array_latency(p)):",
        after="for stage in range(mac_array_latency(p) - 1):",
        reason="Each dot product meets the next group's scale.",
    ),
    Fault(
        name="rows-share-activations",
        file=_MACS,
        before="dot_unit.activations.eq(self.activations[r])",
        after="dot_unit.activations.eq(self.activations[0])",
        reason="All tokens compute the first token's result.",
    ),
)

_FLOAT = (
    Fault(
        name="ties-away-from-even",
        file=_FP32,
        before="(guard & (sticky | kept[0]))",
        after="guard",
        reason="Round half up instead of half to even.",
    ),
    Fault(
        name="truncates",
        file=_FP32,
        before="(guard & (sticky | kept[0]))",
        after="(guard & 0)",
        reason="Round toward zero.",
    ),
    Fault(
        name="sticky-bit-lost-in-alignment",
        file=_FP32,
        before="small=Cat(shifted[:24].any(), shifted[24:])",
        after="small=Cat(shifted[23], shifted[24:])",
        reason="What lies far below no longer breaks a tie.",
    ),
    Fault(
        name="sticky-bit-lost-after-carry",
        file=_FP32,
        before="normal.eq(Cat(s.total[:2].any(), s.total[2:]))",
        after="normal.eq(s.total[1:])",
        reason="The place shifted out by a carry no longer breaks a tie.",
    ),
    Fault(
        name="subnormal-operand-flushed",
        file=_FP32,
        before="small=Cat(small[:23], small_field != 0)",
        after="small=Mux(small_field == 0, 0, Cat(small[:23], 1))",
        reason="Subnormal addends count as zero.",
    ),
    Fault(
        name="subnormal-exponent-zero",
        file=_FP32,
        before="small_exponent.eq(Mux(small_field == 0, 1, small_field))",
        after="small_exponent.eq(small_field)",
        reason="A subnormal has the exponent of the smallest normal; taken as one less it is halved.",
    ),
    Fault(
        name="cancellation-below-subnormal",
        file=_FP32,
        before="left = Mux(zeros > room, room, zeros)[:5]",
        after="left = zeros[:5]",
        reason="Cancellation near the bottom of the range normalises past the smallest exponent.",
    ),
    Fault(
        name="infinity-minus-infinity",
        file=_FP32,
        before="is_nan=large_is_nan | (large_field.all() & small_field.all() & subtract)",
        after="is_nan=large_is_nan",
        reason="Infinity minus infinity is NaN, not infinity.",
    ),
    Fault(
        name="cancelled-zero-negative",
        file=_FP32,
        before="s.sign & ~s.cancelled",
        after="s.sign",
        reason="An exact zero from unlike signs is +0.",
    ),
    Fault(
        name="overflow-wraps",
        file=_FP32,
        before="s.is_inf | (field >= INFINITY_EXPONENT)",
        after="s.is_inf",
        reason="A sum that carries into exponent 255 must be infinity with a zero fraction.",
    ),
    Fault(
        name="infinity-times-zero",
        file=_FP32,
        before="((fraction != 0) | (self.dot == 0))",
        after="(fraction != 0)",
        reason="A zero dot product times an infinite scale is NaN.",
    ),
    Fault(
        name="e8m0-nan-as-number",
        file=_FP32,
        before="is_nan.eq(e8m0_field == 0xFF)",
        after="is_nan.eq(0)",
        reason="E8M0 0xFF is NaN, not 2^127.",
    ),
    Fault(
        name="e8m0-half-not-folded",
        file=_FP32,
        before="exponent.eq(e8m0_field - 128)",
        after="exponent.eq(e8m0_field - 127)",
        reason="E2M1 operands are doubled; without the factor 1/2 every MXFP4 product doubles.",
    ),
    Fault(
        name="fp16-subnormal-scale",
        file=_FP32,
        before="significand.eq(Cat(fraction, exponent_field != 0))",
        after="significand.eq(Cat(fraction, 1))",
        reason="A subnormal FP16 scale gets a hidden one.",
    ),
    Fault(
        name="wrong-mode-shift",
        file=_FP32,
        before="Mux(self.times_8, 3, 0)",
        after="Mux(self.times_8, 4, 0)",
        reason="The upper slice weighs 16 instead of 8.",
    ),
)

_CHAINS = (
    Fault(
        name="draft-weighs-one",
        file=_ACCUMULATOR,
        before="(held_mode == WeightMode.MSB) | (held_mode == WeightMode.DRAFT)",
        after="held_mode == WeightMode.MSB",
        reason="Draft dot products weigh 8 like the upper slice.",
    ),
    Fault(
        name="hazard-check-one-stage-short",
        file=_ACCUMULATOR,
        before="Cat(same_chain).any()",
        after="Cat(same_chain[:-1]).any()",
        reason="A sum in its last stage is not yet in the chain memory; the group adds to the old one.",
    ),
    Fault(
        name="hazard-ignores-slot",
        file=_ACCUMULATOR,
        before="valid & (s.chain == product.chain) & (s.slot == product.slot)",
        after="valid & (s.chain == product.chain)",
        reason="Rows that merely share a chain number wait for each other: right values, lost throughput.",
    ),
    Fault(
        name="hazard-not-checked",
        file=_ACCUMULATOR,
        before="fetch.eq(product_valid & ~hazard & add)",
        after="fetch.eq(product_valid & add)",
        reason="Back-to-back groups of one chain lose additions.",
    ),
    Fault(
        name="chain-not-restarted",
        file=_ACCUMULATOR,
        before="column.start.eq(sums[0].first)",
        after="column.start.eq(0)",
        reason="A chain continues from its former occupant's sum.",
    ),
    Fault(
        name="slots-share-a-chain",
        file=_ACCUMULATOR,
        before="column.fetch_address.eq(product.chain * p.dots_per_fp32 + product.slot)",
        after="column.fetch_address.eq(product.chain * p.dots_per_fp32)",
        reason="All rows of an FP32 unit add to the first row's sum.",
    ),
    Fault(
        name="group-sum-not-cleared",
        file=_ACCUMULATOR,
        before="column.gather_first.eq(beat_count == 0)",
        after="column.gather_first.eq(0)",
        reason="Integer sums run on into the next group.",
    ),
    Fault(
        name="group-overwritten-while-held",
        file=_ACCUMULATOR,
        before="self.dots.ready.eq(~last_beat | ~held | release)",
        after="self.dots.ready.eq(1)",
        reason="The next group replaces the held one before all its rows have entered the multiplier.",
    ),
    Fault(
        name="result-lost-under-stall",
        file=_ACCUMULATOR,
        before="add.eq(~self.results.valid | self.results.ready)",
        after="add.eq(1)",
        reason="A result that waits is overwritten.",
    ),
    Fault(
        name="stall-counted-while-output-waits",
        file=_ACCUMULATOR,
        before="with m.If(product_valid & hazard & add):",
        after="with m.If(product_valid & hazard):",
        reason="Cycles lost to the consumer are blamed on the chain.",
    ),
    Fault(
        name="output-stall-not-counted",
        file=_PE,
        before="self.results.valid & ~self.results.ready)",
        after="self.results.valid & self.results.ready)",
        reason="The counter shows transfers instead of waits.",
    ),
    Fault(
        name="holds-not-held",
        file=_PIPELINE,
        before="with m.If(advance):",
        after="with m.If(1):",
        reason="Registers load although their pipeline holds.",
    ),
)

_FUNCTIONAL = (
    Fault(
        name="functional-draft-without-augment",
        file=_FORMATS,
        before="return 2 * signed + (mode is WeightMode.DRAFT)",
        after="return 2 * signed",
        reason="The functional draft becomes plain truncation.",
    ),
    Fault(
        name="functional-fp16-subnormal",
        file=_FORMATS,
        before="np.where(exponent == 0, subnormal,",
        after="np.where(exponent == 0, np.uint32(0),",
        reason="Subnormal FP16 scales become zero.",
    ),
    Fault(
        name="functional-chain-descends",
        file=_NUMERICS,
        before="for group in range(terms.shape[-1]):",
        after="for group in reversed(range(terms.shape[-1])):",
        reason="Groups add in ascending order; another order rounds differently.",
    ),
    Fault(
        name="functional-fused",
        file=_NUMERICS,
        before="np.multiply(term, wide[:, group], out=term)  # first rounding",
        after="chain = (chain + np.float64(1) * term * wide[:, group]).astype(np.float32)\n            term[:] = 0",
        reason="Scaling and adding round once instead of twice.",
    ),
    Fault(
        name="functional-boundary-order",
        file=_NUMERICS,
        before="    total = fp32_add(msb, lsb)\n",
        after="    total = np.asarray(np.float64(msb) + lsb)\n",
        reason="The sum of the two chains is rounded before the activation scale is applied.",
    ),
    Fault(
        name="quantizer-truncates",
        file=_QUANTIZATION,
        before="np.rint(grouped / divisor[:, :, None])",
        after="np.trunc(grouped / divisor[:, :, None])",
        reason="Weights round to nearest even.",
    ),
    Fault(
        name="quantizer-reaches-minus-128",
        file=_QUANTIZATION,
        before="divisor[:, :, None]), -127, 127)",
        after="divisor[:, :, None]), -128, 127)",
        reason="The weight code is symmetric: -128 never occurs.",
    ),
    Fault(
        name="quantizer-scale-flushed",
        file=_QUANTIZATION,
        before="np.where((scales == 0) & (absmax > 0), _FP16_SMALLEST_SUBNORMAL, scales)",
        after="scales",
        reason="A tiny group keeps the smallest subnormal scale instead of vanishing.",
    ),
)

FAULTS = _WEIGHTS + _MAC + _FLOAT + _CHAINS + _FUNCTIONAL
