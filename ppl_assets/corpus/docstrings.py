"""A Python file as prose and code: its docstrings, and its source without them.

Docstrings are the string statements that open a module, class or function. Both parts come from the syntax tree alone;
nothing is imported or run.
"""

import ast
import warnings
from collections.abc import Iterator
from inspect import cleandoc

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# Where definitions are: expressions hold none, and walking them too would take most of the time.
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def split_docstrings(source: str) -> tuple[str, str]:
    """Prose (the docstrings, in order of appearance, a blank line between two) and code (the rest).

    A body of nothing but docstrings becomes ``pass``, so that the code still parses. Line ends must be ``\\n``.

    Raises:
        ValueError, RecursionError: the source does not parse; a SyntaxError is a ValueError here.
    """
    docstrings = sorted(_docstrings(_parse(source)), key=lambda found: (found[0].lineno, found[0].col_offset))
    prose = [cleandoc(ast.literal_eval(statement.value)).strip() for statement, _ in docstrings]
    lines = source.encode("utf-8").split(b"\n")
    dropped: set[int] = set()
    for statement, is_body in reversed(docstrings):
        dropped |= _cut(lines, statement, b"pass" if is_body else b"")
    code = b"\n".join(line for number, line in enumerate(lines) if number not in dropped)
    return "\n\n".join(text for text in prose if text), code.decode("utf-8")


def _parse(source: str) -> ast.Module:
    """The syntax tree; what the compiler has to say about other people's escapes is not ours to show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except SyntaxError as error:
            raise ValueError(str(error)) from error


def _docstrings(tree: ast.Module) -> Iterator[tuple[ast.Expr, bool]]:
    """Docstring statements, and whether each must leave ``pass`` because it is the last of a body of docstrings."""
    below: list[ast.AST] = [tree]
    while below:
        node = below.pop()
        if isinstance(node, _DOCUMENTED):
            leading = list(_leading_strings(node.body))
            is_whole_body = len(leading) == len(node.body) and not isinstance(node, ast.Module)
            for statement in leading:
                yield statement, is_whole_body and statement is leading[-1]
        for part in _BODIES:
            below.extend(getattr(node, part, ()))


def _leading_strings(body: list[ast.stmt]) -> Iterator[ast.Expr]:
    """The string statements that a body opens with: without the first, the second would be the docstring."""
    for statement in body:
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
            return
        if not isinstance(statement.value.value, str):
            return
        yield statement


def _cut(lines: list[bytes], statement: ast.Expr, replacement: bytes) -> set[int]:
    """Replace a statement in place; the numbers (from 0) of lines that it filled and that are to be left out."""
    first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
    before, after = lines[first][: statement.col_offset], lines[last][statement.end_col_offset :]
    if not replacement and after.lstrip().startswith(b";"):
        after = after.lstrip()[1:].lstrip()
    lines[first] = before + replacement + after
    inner = set(range(first + 1, last + 1))
    return inner if lines[first].strip() else inner | {first}
