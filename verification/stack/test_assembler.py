"""The command encoding, the assembler and the disassembler."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.errors import UserError
from hw.isa.encoding import (
    COMMANDS,
    FLAGS_BITS,
    OFFSET_MAX,
    OFFSET_MIN,
    UNIT_FIELDS,
    Command,
    Opcode,
    Operand,
    Unit,
    from_words,
    pack,
    record_header,
    to_words,
    unpack,
)
from sw_stack.compiler.assembler import assemble, assemble_file
from sw_stack.compiler.command_reference import PAGE, command_reference
from sw_stack.compiler.disassembler import disassemble, listing


@st.composite
def commands(draw):
    """Any command that the PE does not refuse whatever its operands' values; NEXT and RETURN included."""
    spec = COMMANDS[draw(st.sampled_from(list(Opcode)))]
    fields = {}
    for field in UNIT_FIELDS[spec.unit]:
        if field.name in spec.fields:
            legal = spec.legal.get(field.name) or (tuple(field.values) if field.values else range(1 << field.bits))
            fields[field.name] = int(draw(st.sampled_from(list(legal))))
    operands = {
        slot: Operand(draw(st.integers(0, 15)), draw(st.integers(OFFSET_MIN, OFFSET_MAX)))
        for slot in spec.operands.values()
    }
    tokens = draw(st.lists(st.integers(0, 15), max_size=4, unique=True)) if spec.unit is not Unit.SEQUENCER else []
    value = draw(st.integers(0, 0xFFFFFFFF)) if spec.opcode is Opcode.SET else 0
    return Command(spec.opcode, tuple(tokens[:2]), tuple(tokens[2:]), fields, operands, value)


@settings(max_examples=300, deadline=None)
@given(commands())
def test_pack_and_unpack_are_inverse(command):
    """Every legal command has 160 bits that unpack to it, also through its five words."""
    bits = pack(command)
    assert bits < 1 << 160
    assert unpack(from_words(to_words(bits))) == command


def test_encoding_against_bits_placed_by_hand():
    """One command of every layout, its bits placed by hand from the text of the encoding, not by its code."""
    # hb.load d=WH[3], a=r2+8, n=18 ?2 !1: opcode 0x10; wait0 = 1_0010 at 6; signal0 = 1_0001 at 16;
    # d = register 0, offset 3 -> 0x0030; a = 0x0082; n (fifth slot) = 18 << 4 = 0x0120.
    load = Command(Opcode.HB_LOAD, (2,), (1,), {}, {"d": Operand(0, 3), "a": Operand(2, 8), "n": Operand(0, 18)})
    assert pack(load) == 0x0000_0120_0000_0000_0082_0030_0000_0000_0011_0490
    # vector.quantize d=AV[-1], a=LT[r15], row_b=5: a_space 2 at 26, d_space 2 at 31, row_b 5 at 26+2+3+2+3+3+3 = 42.
    quantize = Command(
        Opcode.QUANTIZE,
        fields={"a_space": 2, "d_space": 2, "row_b": 5},
        operands={"d": Operand(0, -1), "a": Operand(15, 0), "n": Operand(1, 0)},
    )
    assert pack(quantize) == 0x26 | 2 << 26 | 2 << 31 | 5 << 42 | 0xFFF0 << 64 | 0x000F << 80 | 1 << 128
    # set r7, 0xDEADBEEF: register at 26, value at 64.
    assert pack(Command(Opcode.SET, fields={"register": 7}, value=0xDEADBEEF)) == 1 | 7 << 26 | 0xDEADBEEF << 64
    assert record_header(5, 3) == 0x0003_0005


def test_fields_fit_the_flags():
    """No unit's fields exceed the flags area, and opcode 0 is no command."""
    assert max(sum(field.bits for field in fields) for fields in UNIT_FIELDS.values()) <= FLAGS_BITS
    assert 0 not in list(Opcode)
    with pytest.raises(UserError, match="opcode"):
        unpack(0)


@settings(max_examples=200, deadline=None)
@given(st.lists(commands(), min_size=1, max_size=6))
def test_disassembly_assembles_to_the_same_bits(program):
    """Text made of any commands assembles to their bits; what is refused is refused for its semaphores only."""
    bits = [pack(command) for command in program]
    text = disassemble(bits, {"main": 0})
    try:
        assembly = assemble(text)
    except UserError as error:
        assert re.search(r"semaphore \d+ must be (produced|consumed) by one unit", str(error))
        return
    assert assembly.instructions == bits
    assert assembly.kernels == {"main": 0}


def test_a_listing_shows_what_is_no_command():
    """A listing never fails: broken words are shown with the reason."""
    assert "no command: opcode must be a known one, not 0x3f" in listing([0x3F])
    assert ".kernel main\n   0  " in listing([0x0A], {"main": 0})


def test_names_labels_expressions(tmp_path):
    """Names of numbers, registers, semaphores, kernels and labels mean what they were given, in any order of use."""
    source = tmp_path / "kernel.s"
    source.write_text(
        """
        .define SIZE 3 * (2 + 4) // 2          ; 9
        .register times r4
        .semaphore full 6
        .kernel main
            set times, fp32(-1.5)
            loop times+1, done
                stream.load WL[SIZE - 1], n=times !full
                next
        done: return
        """
    )
    assembly = assemble_file(source, {"SIZE": 5})
    first, loop, load, _, last = (unpack(bits) for bits in assembly.instructions)
    assert (first.value, loop.operands["b"], last.opcode) == (0xBFC00000, Operand(0, 4), Opcode.RETURN)
    assert load.operands == {"d": Operand(0, 4), "n": Operand(4, 0)}
    assert load.signals == (6,)
    assert unpack(assemble(source.read_text()).instructions[2]).operands["d"] == Operand(0, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nop", r"x.s:1: unknown command 'nop'"),
        ("\nhb.lod d=0, a=0, n=1", r"x.s:2: unknown command 'hb.lod'; did you mean hb.load"),
        ("hb.load d=0, a=0", r"x.s:1: hb.load must have n"),
        ("hb.load d=0, a=0, n=1, q=2", r"hb.load must have d, a, n, not 'q'"),
        ("hb.load d=0, d=0, a=0, n=1", r"hb.load must have d once"),
        ("hb.load d=2048, a=0, n=1", r"offset must be -2048 to 2047, not 2048"),
        ("hb.load d=r1+r2, a=0, n=1", r"at most one register"),
        ("hb.load d=2*r1, a=0, n=1", r"at most one register"),
        ("hb.load d=0, a=0, n=sizes", r"unknown name 'sizes'"),
        ("hb.load d=0, a=0, n=1//0", r"must not divide by 0"),
        ("hb.load d=0, a=0, n=f(1)", r"expression must be"),
        ("hb.load d=0, a=0, n=1 ?1 !1", r"must name a semaphore once"),
        ("hb.load d=0, a=0, n=1 ?1 ?2 ?3", r"at most two semaphores"),
        ("hb.load d=0, a=0, n=1 ?16", r"unknown semaphore '16'"),
        ("mark 1 !2", r"executed by the sequencer"),
        ("vector.add d=AV[0], a=0, b=0, n=1", r"vector.add d_space must be VT, XM, not 'AV'"),
        ("vector.quantize d=VT[0], a=0, n=1", r"vector.quantize d_space must be XM, AV, not 'VT'"),
        ("vector.move d=VT[0], a=ROW[0], n=1", r"a_space must be RT, VT, LT"),
        ("vector.add d=0, a=0, b=ROW[8], n=1", r"row register must be 0 to 7, not 8"),
        ("array.matmul d=0, a=0, w=0, s=0, n=1, m=1, mode=INT8", r"mode must be MSB, LSB, DRAFT, MXFP4, not 'INT8'"),
        ("array.matmul d=0, a=0, w=0, s=0, n=1, m=1, chain=64", r"chain must be 0 to 63, not 64"),
        ("hb.load d=0, a=0, n=1 !3\nstream.load d=0, n=1 !3", r"x.s:2: semaphore 3 must be produced by one unit"),
        ("store a=0, n=1 ?3\nhost 0, 0, 0 ?3", r"x.s:2: semaphore 3 must be consumed by one unit"),
        (".semaphore a 3\n.semaphore b 3", r"x.s:2: .semaphore must be a free one"),
        (".register loop r1", r"name must be new"),
        (".word 3", r"unknown directive '.word'"),
        (".define x", r".define must have a name and a value"),
        ("x: return\nx: return", r"x.s:2: name must be new, not 'x'"),
    ],
)
def test_mistakes_name_file_and_line(text, message):
    """Every mistake is one line with file, line and rule."""
    with pytest.raises(UserError, match=message) as caught:
        assemble(text, "x.s")
    assert str(caught.value).startswith("x.s:")


def test_the_command_reference_is_up_to_date():
    """docs/pe_commands.md is what the encoding generates today."""
    assert PAGE.read_text() == command_reference()
