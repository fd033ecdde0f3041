"""Constant expressions of the assembler: whole numbers, names, + - * // and parentheses, and at most one register."""

from __future__ import annotations

import ast
import operator
import re
import struct
from dataclasses import dataclass

from hw.errors import UserError, nearest

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
_FP32 = re.compile(r"fp32\(\s*([^()]+?)\s*\)")


@dataclass(frozen=True)
class Linear:
    """register + offset; register 0 is a plain number."""

    register: int
    offset: int


def evaluate(text: str, numbers: dict[str, int], registers: dict[str, int]) -> Linear:
    """The value of ``text``; ``fp32(x)`` is the bits of the FP32 number x.

    Raises
    ------
    UserError
        Unknown names, other syntax, a register multiplied or subtracted, two registers.
    """
    try:
        tree = ast.parse(_FP32.sub(_fp32_bits, text.strip()), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"expression must be numbers, names, + - * // and parentheses, not {text!r}") from error
    return _value(tree.body, text, numbers, registers)


def _fp32_bits(match: re.Match) -> str:
    return str(struct.unpack("<I", struct.pack("<f", float(match[1])))[0])


def _value(node: ast.expr, text: str, numbers: dict[str, int], registers: dict[str, int]) -> Linear:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Linear(0, node.value)
    if isinstance(node, ast.Name):
        if node.id in registers:
            return Linear(registers[node.id], 0)
        if node.id in numbers:
            return Linear(0, numbers[node.id])
        raise UserError(f"unknown name {node.id!r}; {nearest(node.id, [*numbers, *registers])}")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = ast.BinOp(ast.Constant(0), ast.Sub(), node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left = _value(node.left, text, numbers, registers)
        right = _value(node.right, text, numbers, registers)
        only_added = isinstance(node.op, ast.Add) or (isinstance(node.op, ast.Sub) and not right.register)
        if (left.register and right.register) or ((left.register or right.register) and not only_added):
            raise UserError(f"expression must add at most one register, not {text!r}")
        if isinstance(node.op, ast.FloorDiv) and right.offset == 0:
            raise UserError(f"expression must not divide by 0: {text!r}")
        return Linear(left.register or right.register, _OPERATORS[type(node.op)](left.offset, right.offset))
    raise UserError(f"expression must be numbers, names, + - * // and parentheses, not {text!r}")
