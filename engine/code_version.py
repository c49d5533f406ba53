"""The version of code that a feature, a part or a result depends on. Readable without Jittor.

The code of a module is that module and every module of the kit that it imports, directly or not,
with the C++ headers beside them. Its version ignores words: comments, docstrings, the help text
below fields, and messages.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from runtime.paths import ROOT

# a string, a character, a comment, a word or number, or any other character
TOKENS_OF_CPP = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|//[^\n]*|/\*.*?\*/|\w+|[^\w\s]', re.DOTALL
)


def code_files(modules: Iterable[str], root: Path = ROOT) -> list[Path]:
    """Returns the files of these modules' code, sorted."""
    waiting: list[str] = list(modules)
    files: set[Path] = set()
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file() and file not in files:
                files.add(file)
                waiting += [name.rpartition(".")[0]] if "." in name else []
                waiting += _imported_names(file.read_bytes())
    headers = {
        header for folder in {file.parent for file in files} for header in folder.glob("*.hpp")
    }
    return sorted(files | headers)


def code_digest(modules: Iterable[str], jittor: str, root: Path = ROOT) -> str:
    """Returns one hash of these modules' code and of the version of Jittor that runs it."""
    content = {"jittor": jittor, "files": code_hashes(modules, root)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_hashes(modules: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Returns {file below `root`: its digest} of these modules' code."""
    files = code_files(modules, root)
    return {file.relative_to(root).as_posix(): file_digest(file) for file in files}


def file_digest(file: Path) -> str:
    """Returns a hash of a Python or C++ file that ignores words."""
    return _digest(file.read_bytes(), file.suffix)


@cache
def _digest(content: bytes, suffix: str) -> str:
    try:
        if suffix == ".py":
            code = json.dumps(_without_words(ast.parse(content))).encode()
        else:
            tokens = TOKENS_OF_CPP.findall(content.decode())
            code = " ".join(t for t in tokens if not t.startswith(("//", "/*"))).encode()
    except (SyntaxError, ValueError):  # no code: an audit still has to say that it is another file
        code = content
    return hashlib.sha256(code).hexdigest()


def _without_words(node: Any) -> Any:
    """Returns a syntax tree as nested lists, the same under every version of Python.

    Fields that are empty are left out, because newer versions of Python add such fields.
    """
    if isinstance(node, list):
        return [_without_words(item) for item in node if not _is_words(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        fields["exc"] = node.exc.func
    filled = {name: value for name, value in fields.items() if value is not None and value != []}
    return [type(node).__name__, {name: _without_words(value) for name, value in filled.items()}]


def _is_words(statement: Any) -> bool:
    """Whether a statement is a bare string or prints something."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "print"
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _imported_names(content: bytes) -> tuple[str, ...]:
    """Returns the dotted names that Python code imports when it runs; the kit's are absolute."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    return tuple(name for node in _nodes_that_run(tree) for name in _names_of_import(node))


def _nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yields all nodes but those below `if TYPE_CHECKING:`."""
    yield node
    is_for_types = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    for child in () if is_for_types else ast.iter_child_nodes(node):
        yield from _nodes_that_run(child)


def _names_of_import(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []
