import ast
import tokenize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_assets.corpus.docstrings import split_docstrings
from ppl_assets.corpus.python_packages import package_files

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class WithoutDocstrings(ast.NodeTransformer):
    """The oracle: strings that open a body are taken out of the tree; a body that is left empty passes."""

    def visit(self, node):
        if isinstance(node, DOCUMENTED):
            while node.body and is_string(node.body[0]):
                del node.body[0]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
        return self.generic_visit(node)


def is_string(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def parse(source):
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def check(source):
    prose, code = split_docstrings(source)
    assert ast.dump(ast.parse(code)) == ast.dump(WithoutDocstrings().visit(ast.parse(source)))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            assert docstring.strip() in prose
    return prose, code


# Import names whose files are many, old and new; what the interpreter itself warns of in them is not ours.
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("package", ["asyncio", "email", "rich"])
def test_code_is_the_program_without_its_docstrings(package):
    files = [file for file in package_files(package) if file.name.endswith(".py") and file.size < 200_000]
    assert len(files) > 20
    for file in files:
        with tokenize.open(file.path) as opened:
            check(opened.read())


@pytest.mark.parametrize(
    ("source", "prose", "code"),
    [
        ('"""Doc."""\nx = 1\n', "Doc.", "x = 1\n"),
        ('def f():\n    """Doc.\n\n    More.\n    """\n    return 1\n', "Doc.\n\nMore.", "def f():\n    return 1\n"),
        ("class A:\n    'Doc.'\n", "Doc.", "class A:\n    pass\n"),
        ("def f(): 'Doc.'\n", "Doc.", "def f(): pass\n"),
        ("def f(): 'Doc.'; return 1\n", "Doc.", "def f(): return 1\n"),
        ("'one'; 'two'; x = 1\n", "one\n\ntwo", "x = 1\n"),
        ("'''one\n1'''; '''two\n2'''; x = 1\n", "one\n1\n\ntwo\n2", "x = 1\n"),
        ("def f():\n    'one'\n    'two'\n", "one\n\ntwo", "def f():\n    pass\n"),
        (
            "'Doc.'  # noqa\nfrom __future__ import annotations\n",
            "Doc.",
            "  # noqa\nfrom __future__ import annotations\n",
        ),
        ("('Doc.'\n 'more')\nx = 1\n", "Doc.more", "x = 1\n"),
        ("é = 1\ndef ü(): 'Grün 🌱'; return 'ß'\n", "Grün 🌱", "é = 1\ndef ü(): return 'ß'\n"),
        ("async def f():\n    'Doc.'\n    await g()\n", "Doc.", "async def f():\n    await g()\n"),
        ("if a:\n    def f():\n        'Doc.'\n        b\n", "Doc.", "if a:\n    def f():\n        b\n"),
        (
            "try:\n    a\nexcept E:\n    class B:\n        'Doc.'\n",
            "Doc.",
            "try:\n    a\nexcept E:\n    class B:\n        pass\n",
        ),
        (
            "match a:\n    case 1:\n        def f():\n            'Doc.'\n",
            "Doc.",
            "match a:\n    case 1:\n        def f():\n            pass\n",
        ),
        ("x = 1\n'no docstring'\n", "", "x = 1\n'no docstring'\n"),
        ("f'no {docstring}'\n", "", "f'no {docstring}'\n"),
        ("b'no docstring'\n", "", "b'no docstring'\n"),
        ("x = '''\x0c\n'''\n'a'\n", "", "x = '''\x0c\n'''\n'a'\n"),
        ("''\nx = 1", "", "x = 1"),
        ("", "", ""),
    ],
)
def test_docstrings_are_cut_out_wherever_they_stand(source, prose, code):
    assert check(source) == (prose, code)


STATEMENTS = st.sampled_from(
    ["'doc'", '"""two\n\nlines"""', "('a' 'b')", "x = 1", "pass", "# remark", "'ü🌱'", "f'{x}'"]
)


@given(
    lines=st.lists(STATEMENTS, min_size=1),
    joint=st.sampled_from(["\n    ", "; "]),
    head=st.sampled_from(["def f():", "class A:"]),
)
def test_any_mixture_of_statements_is_split_as_the_syntax_tree_says(lines, joint, head):
    source = f"{head}\n    " + joint.join(lines) + "\n"
    if parse(source):  # a remark alone is no body
        check(source)


@pytest.mark.parametrize("source", ["def f(:\n", "print 'old'\n", "x = '\x00'\n", "(" * 500, "  indented\n", "\ud800"])
def test_what_does_not_parse_is_a_value_error(source):
    with pytest.raises((ValueError, RecursionError)):
        split_docstrings(source)


@pytest.mark.filterwarnings("error")
def test_an_odd_escape_in_someone_elses_file_warns_nobody():
    assert split_docstrings("'a \\d'\nx = '\\d'\n")[1] == "x = '\\d'\n"
