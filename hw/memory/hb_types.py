"""Layouts of the HB controller's ports; docs/hb_interface.md shows them in time."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import HbCommand, HbError
from hw.params import HbParams


def command_shape() -> range:
    """Width of a command on the pins."""
    return range(max(HbCommand) + 1)


def error_shape() -> range:
    """Width of an error code."""
    return range(max(HbError) + 1)


def transfer_layout(params: HbParams) -> data.StructLayout:
    """A request: ``columns`` consecutive data columns, behind a row's last one the next row's first.

    write   direction
    tag     returned with every beat read and with the done pulse
    row, column  first data column
    columns  length, at least 1
    """
    return data.StructLayout(
        {
            "write": 1,
            "tag": params.tag_bits,
            "row": range(params.rows),
            "column": range(params.columns_per_row),
            "columns": params.length_bits,
        }
    )


def beat_layout(params: HbParams) -> data.StructLayout:
    """A column read: its data, the transfer's tag, whether it is the last, whether ECC could not correct it."""
    return data.StructLayout({"data": params.data_bits, "tag": params.tag_bits, "last": 1, "uncorrectable": 1})


class HbRequesterSignature(wiring.Signature):
    """One requester's view of the controller.

    request  Out stream of `transfer_layout`
    write    Out stream of data beats, taken in the order of this requester's write transfers
    read     In stream of `beat_layout`
    done     In, one cycle after the bank of a transfer is idle again, or the transfer was refused
    done_tag, done_error  In, valid with ``done``
    """

    def __init__(self, params: HbParams):
        super().__init__(
            {
                "request": Out(stream.Signature(transfer_layout(params))),
                "write": Out(stream.Signature(params.data_bits)),
                "read": In(stream.Signature(beat_layout(params))),
                "done": In(1),
                "done_tag": In(params.tag_bits),
                "done_error": In(error_shape()),
            }
        )


class HbPinsSignature(wiring.Signature):
    """The controller's view of its DRAM bank. Everything changes and is sampled on ticks only.

    tick         Out, the DRAM clock edge
    command      Out, an `HbCommand`, NOP away from ticks
    row          Out, with ACTIVATE
    column       Out, physical column, with READ and WRITE
    write_data, write_check  Out, nCWL ticks after WRITE
    read_data, read_check    In, nCL + nBL ticks after READ
    """

    def __init__(self, params: HbParams):
        members = {
            "tick": Out(1),
            "command": Out(command_shape()),
            "row": Out(range(params.rows)),
            "column": Out(range(params.columns_per_row)),
            "write_data": Out(params.data_bits),
            "read_data": In(params.data_bits),
        }
        if params.ecc == "sideband":
            members |= {"write_check": Out(params.check_bits), "read_check": In(params.check_bits)}
        super().__init__(members)
