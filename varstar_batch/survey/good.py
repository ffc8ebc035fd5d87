"""Which observations are good in a survey's own words: a small expression on the columns of an observation.

The language is a part of Python's, taken apart by Python's own parser and evaluated by Arrow; nothing of it is run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_LETTERS = 500
"""Of an expression: the parser needs memory for nested ones."""

_COMPARISONS: Mapping[type[ast.cmpop], Callable[..., Any]] = MappingProxyType(
    {
        ast.Eq: pc.equal,
        ast.NotEq: pc.not_equal,
        ast.Lt: pc.less,
        ast.LtE: pc.less_equal,
        ast.Gt: pc.greater,
        ast.GtE: pc.greater_equal,
    }
)
_ARITHMETIC: Mapping[type[ast.operator], Callable[..., Any]] = MappingProxyType(
    {
        ast.Add: pc.add,
        ast.Sub: pc.subtract,
        ast.Mult: pc.multiply,
        ast.Div: pc.divide,
        ast.BitAnd: pc.bit_wise_and,
        ast.BitOr: pc.bit_wise_or,
        ast.BitXor: pc.bit_wise_xor,
    }
)
_OF_BOOLEANS: Mapping[type[ast.operator], Callable[..., Any]] = MappingProxyType(
    {ast.BitAnd: pc.and_kleene, ast.BitOr: pc.or_kleene, ast.BitXor: pc.xor}
)
_LANGUAGE = "comparisons of columns with numbers or texts, joined by and, or, not, as in catflags == 0 and chi < 4"

_NOT_SET = ("", "0", "0.0", "f", "false", "n", "no")
"""Texts of a flag that is not set."""

_Value = Any
"""An Arrow array, one value for each observation, or an Arrow scalar."""


class GoodError(ValueError):
    """An expression that cannot be taken apart, or does not fit to the columns; one line says why."""


@dataclass(frozen=True)
class Good:
    """An expression that is true for the observations to use.

    Comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, bits (``catflags & 32768``), parentheses, and
    ``flag(x)``: whether x is true or not 0, which it is not where it is null or the survey has no such column.
    Elsewhere a null compares as false, so that an observation about which nothing is known is not good.
    """

    text: str
    """As it was written."""

    def __post_init__(self) -> None:
        self._tree()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it names, in order."""
        return tuple(dict.fromkeys(_names(self._tree())))

    @property
    def needed(self) -> tuple[str, ...]:
        """Of these, those that must be there: those that are named outside of ``flag``."""
        return tuple(dict.fromkeys(_names(self._tree(), needed=True)))

    def kinds(self) -> dict[str, pa.DataType]:
        """Return as what a file of texts has to be read: whole numbers, numbers, texts, or true and false."""
        kinds: dict[str, pa.DataType] = {}
        _find_kinds(self._tree(), pa.bool_(), kinds)
        return kinds

    def evaluate(self, columns: Mapping[str, pa.Array], n: int) -> npt.NDArray[np.bool_]:
        """Return which of `n` observations are good.

        Parameters
        ----------
        columns : mapping of str to Array (n,)
            Those of `columns` that are there.
        n : int

        Raises
        ------
        GoodError
            A column is not there, or of a type for which the expression makes no sense.
        """
        try:
            value = _evaluate(self._tree(), columns)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError) as error:
            kinds = ", ".join(f"{name} {array.type}" for name, array in columns.items())
            raise GoodError(f"{self.text!r} does not fit to {kinds}: {str(error).splitlines()[0]}") from None
        if not pa.types.is_boolean(value.type):
            raise GoodError(f"{self.text!r} is {value.type}, not true or false: compare it, as in {self.text} == 0")
        if isinstance(value, pa.Scalar):
            return np.full(n, bool(value.as_py()))
        return np.asarray(value.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)

    def _tree(self) -> ast.expr:
        if len(self.text) > MAX_LETTERS:
            raise GoodError(f"expected at most {MAX_LETTERS} letters, got {len(self.text)}")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            hint = "; write == for =" if "=" in self.text and "==" not in self.text else ""
            raise GoodError(f"expected {_LANGUAGE}, got {self.text!r}{hint}") from None
        _check(tree)
        return tree


def _check(node: ast.expr) -> None:
    """Refuse whatever is not of the language. Raises GoodError."""
    for part in _parts(node):
        _check(part)


def _parts(node: ast.expr) -> list[ast.expr]:
    """Return what an expression is made of. Raises GoodError where it is not of the language."""
    parts: list[ast.expr] | None = None
    match node:
        case ast.BoolOp():
            parts = node.values
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            parts = [node.operand]
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            parts = [node.left, node.right]
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[ast.List() | ast.Tuple() as among]):
            if among.elts and all(isinstance(one, ast.Constant) for one in among.elts):
                parts = [node.left, *among.elts]
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            parts = [node.left, *node.comparators]
        case ast.Call(func=ast.Name(id="flag"), args=[argument], keywords=[]):
            parts = [argument]
        case ast.Name() | ast.Constant(value=bool() | int() | float() | str()):
            parts = []
    if parts is None:
        raise GoodError(f"expected {_LANGUAGE}, got {ast.unparse(node)!r}")
    return parts


def _names(node: ast.expr, *, needed: bool = False) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if needed and isinstance(node, ast.Call):
        return []
    return [name for part in _parts(node) for name in _names(part, needed=needed)]


def _find_kinds(node: ast.expr, expected: pa.DataType, kinds: dict[str, pa.DataType]) -> None:
    if isinstance(node, ast.Name):
        kinds.setdefault(node.id, expected)
        return
    if isinstance(node, ast.Call):
        expected = pa.string()
    elif isinstance(node, ast.BinOp):
        of_bits = isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor) and not pa.types.is_boolean(expected)
        expected = pa.int64() if of_bits or isinstance(node.op, ast.BitAnd) else pa.float64()
    elif isinstance(node, ast.Compare):
        constants = [part.value for part in _parts(node) if isinstance(part, ast.Constant)]
        texts, truths = ([isinstance(one, kind) for one in constants] for kind in (str, bool))
        expected = pa.string() if any(texts) else pa.bool_() if any(truths) else pa.float64()
    for part in _parts(node):
        _find_kinds(part, expected, kinds)


def _evaluate(node: ast.expr, columns: Mapping[str, pa.Array]) -> _Value:
    if isinstance(node, ast.Name):
        return _column(node.id, columns)
    if isinstance(node, ast.Constant):
        is_large = isinstance(node.value, int) and node.value >= 2**63
        return pa.scalar(node.value, pa.uint64() if is_large else None)
    return _operate(node, columns)


def _operate(node: ast.expr, columns: Mapping[str, pa.Array]) -> _Value:
    match node:
        case ast.BoolOp():
            join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            return reduce(join, (_evaluate(part, columns) for part in node.values))
        case ast.UnaryOp():
            inverse = {ast.Not: pc.invert, ast.USub: pc.negate, ast.Invert: pc.bit_wise_not}[type(node.op)]
            value = _evaluate(node.operand, columns)
            return pc.invert(value) if pa.types.is_boolean(value.type) else inverse(value)
        case ast.BinOp():
            left, right = _alike(_evaluate(node.left, columns), _evaluate(node.right, columns))
            of_bits = pa.types.is_boolean(left.type) and pa.types.is_boolean(right.type)
            operation = (_OF_BOOLEANS if of_bits else _ARITHMETIC).get(type(node.op), _ARITHMETIC[type(node.op)])
            return operation(left, right)
        case ast.Call():
            return _flag(node.args[0], columns)
    return _compare(node, columns)


def _compare(node: Any, columns: Mapping[str, pa.Array]) -> _Value:
    left = _evaluate(node.left, columns)
    if isinstance(node.ops[0], ast.In | ast.NotIn):
        among = pa.array([one.value for one in node.comparators[0].elts]).cast(left.type)
        found = pc.is_in(left, among)
        return pc.invert(found) if isinstance(node.ops[0], ast.NotIn) else found
    values = [left, *(_evaluate(part, columns) for part in node.comparators)]
    pairs = zip(node.ops, values[:-1], values[1:], strict=True)
    return reduce(pc.and_kleene, (_COMPARISONS[type(op)](*_alike(one, other)) for op, one, other in pairs))


def _alike(one: _Value, other: _Value) -> tuple[_Value, _Value]:
    """Return two values with a whole number among them as the other one's type: flags of 64 bits, true or false."""
    if isinstance(one, pa.Scalar) and not isinstance(other, pa.Scalar):
        return _alike(other, one)[::-1]
    if isinstance(other, pa.Scalar) and pa.types.is_integer(other.type):
        value = other.as_py()
        if (pa.types.is_uint64(one.type) and value >= 0) or (pa.types.is_boolean(one.type) and value in (0, 1)):
            return one, pa.scalar(value).cast(one.type) if value < 2**63 else other
    return one, other


def _flag(node: ast.expr, columns: Mapping[str, pa.Array]) -> _Value:
    if not set(_names(node)) <= set(columns):
        return pa.scalar(False)
    value = _evaluate(node, columns)
    if pa.types.is_string(value.type) or pa.types.is_large_string(value.type):
        is_set = pc.invert(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(value)), pa.array(_NOT_SET, value.type)))
    elif pa.types.is_boolean(value.type):
        is_set = value
    else:
        is_set = pc.not_equal(value, pa.scalar(0).cast(value.type))
    return pc.coalesce(is_set, pa.scalar(False))


def _column(name: str, columns: Mapping[str, pa.Array]) -> pa.Array:
    if name not in columns:
        raise GoodError(f"there is no column {name!r} among {', '.join(columns) or 'none'}")
    array = columns[name]
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
