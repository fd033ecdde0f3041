"""Random mutations of a source file: one operator, constant or width changed, chosen by a seed.

Sites come from the syntax tree, so docstrings, messages, imports and names are left alone; the change itself is
textual and within one line, so that a survivor can be read and explained as two lines of source.
"""

import ast
import hashlib
import io
import random
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

BINARY = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
}
COMPARISON = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}


@dataclass(frozen=True)
class Mutation:
    """A change of one line.

    kind           operator, constant or width
    line           1-based
    start, end     columns replaced
    text           what stands there instead
    before, after  the whole line, stripped, without and with the change
    """

    kind: str
    line: int
    start: int
    end: int
    text: str
    before: str
    after: str

    @property
    def name(self) -> str:
        """Short id that does not depend on the line number."""
        return hashlib.sha256(f"{self.before}\n{self.after}".encode()).hexdigest()[:8]

    def apply(self, source: str) -> str:
        """``source`` with the change."""
        lines = source.splitlines(keepends=True)
        old = lines[self.line - 1]
        lines[self.line - 1] = old[: self.start] + self.text + old[self.end :]
        return "".join(lines)


def sites(source: str) -> list[Mutation]:
    """All mutations of ``source``, in order of position; each leaves a file that Python can parse."""
    lines = source.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    found = {}
    for kind, line, start, end, text in _changes(ast.parse(source), tokens):
        old = lines[line - 1]
        mutation = Mutation(kind, line, start, end, text, old.strip(), (old[:start] + text + old[end:]).strip())
        if mutation.before != mutation.after:
            found[line, start, end, text] = mutation
    return [found[key] for key in sorted(found)]


def sample(source: str, count: int, seed: str) -> list[Mutation]:
    """``count`` different mutations, or all where there are fewer; the kinds in turn, so that none drowns another."""
    generator = random.Random(seed)
    queues = {}
    for mutation in sites(source):
        queues.setdefault(mutation.kind, []).append(mutation)
    for queue in queues.values():
        generator.shuffle(queue)
    chosen = []
    while len(chosen) < count and any(queues.values()):
        chosen += [queue.pop() for queue in queues.values() if queue][: count - len(chosen)]
    return chosen


def _changes(tree: ast.AST, tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[str, int, int, int, str]]:
    """(kind, line, start, end, text) of every change; multi-line nodes only through their one-line parts."""
    for node in _walk(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            yield from _operator(node.left, node.right, BINARY[type(node.op)], tokens)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISON:
            yield from _operator(node.left, node.comparators[0], COMPARISON[type(node.ops[0])], tokens)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.USub | ast.Not):
            width = len("not ") if isinstance(node.op, ast.Not) else 1
            if not isinstance(node.operand, ast.Constant):
                yield "operator", node.lineno, node.col_offset, node.col_offset + width, ""
        elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
            yield from _constant(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.lineno == node.end_lineno:
            yield from _width(node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that can be mutated: f-strings, decorators and raise statements only hold names and messages."""
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _operator(left, right, names: tuple[str, str], tokens) -> Iterator[tuple[str, int, int, int, str]]:
    begin, end = (left.end_lineno, left.end_col_offset), (right.lineno, right.col_offset)
    for token in tokens:
        if begin <= token.start and token.end <= end and token.string == names[0]:
            yield "operator", token.start[0], token.start[1], token.end[1], names[1]


def _constant(node: ast.Constant) -> Iterator[tuple[str, int, int, int, str]]:
    place = node.lineno, node.col_offset, node.end_col_offset
    if isinstance(node.value, bool):
        yield "constant", *place, str(not node.value)
        return
    yield "constant", *place, str(node.value + 1)
    if node.value > 0:
        yield "constant", *place, str(node.value - 1)


def _width(node: ast.Call) -> Iterator[tuple[str, int, int, int, str]]:
    """Signedness and one bit less of a shape; a bit more is never wrong, only larger."""
    name = node.func
    if name.id in ("signed", "unsigned"):
        other = "unsigned" if name.id == "signed" else "signed"
        yield "width", name.lineno, name.col_offset, name.end_col_offset, other
    narrows = name.id in ("signed", "unsigned", "Signal", "In", "Out", "range") and len(node.args) >= 1
    if narrows and isinstance(node.args[-1], ast.Name | ast.Attribute | ast.BinOp):
        argument = node.args[-1]
        yield "width", argument.end_lineno, argument.end_col_offset, argument.end_col_offset, " - 1"
