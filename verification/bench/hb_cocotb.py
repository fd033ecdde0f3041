"""Run the HB harness (requesters, bank, protocol checker, scoreboard) on the exported controller under cocotb."""

from amaranth.lib.wiring import Out
from cocotb.handle import SimHandleBase

from cycle_model.hb import Traffic
from hw.memory.hb_controller import HbController
from verification.bench.cocotb_streams import falling, reset, rising, sample
from verification.bench.hb_harness import HbHarness, checker_for


async def run_cocotb(dut: SimHandleBase, traffic: Traffic, deadline: int = 2_000_000) -> HbHarness:
    """Reset, then drive ``traffic`` until every request is answered; fails as `run_amaranth` does.

    Payloads are sampled only with their valid, so that a memory that was never written may be X meanwhile.
    """
    harness = HbHarness(traffic, checker_for(traffic))
    ports = [("__".join(map(str, path)), member.flow == Out) for path, member, _ in _flat(traffic)]
    inputs = {name: getattr(dut, name) for name, is_output in ports if not is_output}
    outputs = {name: getattr(dut, name) for name, is_output in ports if is_output}
    gated = {name: f"{name.removesuffix('payload')}valid" for name in outputs if name.endswith("__read__payload")}
    await reset(dut, list(inputs))
    driven = dict.fromkeys(inputs, 0)
    pins: dict[str, int] = {}
    while not harness.finished:
        for name, value in (harness.inputs() | pins).items():
            if driven[name] != value:
                inputs[name].value = driven[name] = value
        await falling(dut)
        values = {name: sample(handle) for name, handle in outputs.items() if name not in gated}
        values |= {name: sample(outputs[name]) for name, valid in gated.items() if values[valid]}
        pins = harness.sample(values)
        await rising(dut)
        assert harness.cycle < deadline, f"not finished after {deadline} cycles"
    harness.check_bank()
    return harness


def _flat(traffic: Traffic):
    component = HbController(traffic.params, traffic.clocks)
    component._MustUse__silence = True  # only its ports are wanted
    return component.signature.flatten(component)
