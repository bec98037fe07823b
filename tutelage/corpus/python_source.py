"""What one Python file documents, read from its syntax alone: nothing of it is imported or run."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_UNLISTED = frozenset({"property", "cached_property", "setter", "getter", "deleter", "overload", "abstractproperty"})
"""Decorators of what is neither a function nor a method to its user, or is documented elsewhere."""

_LONGEST_DEFAULT = 30


class Thing(NamedTuple):
    """A documented object of a module."""

    kind: str
    """module, class, function or method."""
    name: str
    """Within its module, such as ``JSONDecoder.decode``; empty for the module itself."""
    signature: str
    """``(obj, *, indent=None)``, without annotations, self and cls; empty where unknown."""
    text: str
    """Its docstring, dedented."""


class Import(NamedTuple):
    """A name that a module takes from another and may offer as its own; ``*`` takes all public ones."""

    module: str
    name: str
    as_name: str


@dataclass(frozen=True, slots=True)
class Module:
    """What a file says without being run."""

    name: str
    package: bool
    """Whether it is an ``__init__``."""
    things: tuple[Thing, ...] = ()
    imports: tuple[Import, ...] = ()
    offers: frozenset[str] | None = None
    """Its ``__all__``, where that is written as a plain list."""


def is_public(dotted: str) -> bool:
    """Whether no part of the name begins with an underscore."""
    return not any(part.startswith("_") for part in dotted.split("."))


def read(path: Path, name: str) -> Module | None:
    """The public documentation of a source file, or None if it is not valid Python of this version."""
    package = path.name == "__init__.py"
    try:
        with warnings.catch_warnings():
            # Old string escapes in other people's files are not the reader's concern.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    things: list[Thing] = []
    documentation = ast.get_docstring(tree)
    if documentation:
        things.append(Thing("module", "", "", documentation))
    body = list(_open(tree.body))
    things.extend(_things(body))
    things.extend(_late(body, name))
    imports = tuple(_imports(body, name if package else name.rpartition(".")[0]))
    return Module(name, package, tuple(things), imports, _offers(body))


def signature(arguments: ast.arguments, bound: bool) -> str:
    """The arguments as a reader wants them; ``bound`` leaves out the first, self or cls."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults.extend(arguments.defaults)
    parts = [_argument(argument, default) for argument, default in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if bound and positional:
        parts = parts[1:]
        if parts[:1] == ["/"]:
            parts = parts[1:]
    if arguments.vararg:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parts.append(_argument(argument, default))
    if arguments.kwarg:
        parts.append(f"**{arguments.kwarg.arg}")
    return f"({', '.join(parts)})"


def split_heading(name: str, documentation: str) -> tuple[str, str]:
    """(signature, the rest) of the documentation of compiled code, which says by itself how a thing is called:
    ``reduce(function, iterable[, initial]) -> value``. ("", all of it) if it does not, or says nothing else."""
    written, rest = "", documentation
    while rest.startswith(f"{name}("):
        end = _closing(rest, len(name))
        if end < 0:
            break
        written = written or plain_signature(" ".join(rest[len(name) : end].split()))
        rest = re.sub(r"^--\n+", "", rest[end:].partition("\n")[2].lstrip("\n"))
    rest = rest.strip()
    return (written, rest) if written and rest else ("", documentation)


def _closing(text: str, start: int) -> int:
    """The place after the bracket that closes the one at ``start``, or -1."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place + 1
    return -1


def plain_signature(written: str) -> str:
    """Without annotations where it is valid Python, and without the marks of bound arguments."""
    written = re.sub(r"^\(\$?(self|module|type)(, (/, )?|(?=\)))", "(", written.replace(", $self", ""))
    written = re.sub(r",\s*\)$", ")", written.replace("( ", "("))
    try:
        function = ast.parse(f"def f{written}: ...").body[0]
    except (SyntaxError, ValueError):
        return written
    return signature(function.args, bound=False) if isinstance(function, ast.FunctionDef) else written


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return argument.arg
    written = repr(default.value) if isinstance(default, ast.Constant) else ast.unparse(default)
    return f"{argument.arg}={written if len(written) <= _LONGEST_DEFAULT else '...'}"


def _open(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under ``if`` and ``try`` too."""
    for statement in body:
        match statement:
            case ast.If():
                yield from _open(statement.body)
                yield from _open(statement.orelse)
            case ast.Try():
                yield from _open(statement.body)
                for handler in statement.handlers:
                    yield from _open(handler.body)
                yield from _open(statement.orelse)
            case _:
                yield statement


def _things(body: Sequence[ast.stmt], inside: str = "") -> Iterator[Thing]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                documentation = None if _is_private(node.name) else ast.get_docstring(node)
                decorators = {_last_name(decorator) for decorator in node.decorator_list}
                if documentation and not decorators & _UNLISTED:
                    bound = bool(inside) and "staticmethod" not in decorators
                    kind = "method" if inside else "function"
                    # Some say again how they are called.
                    below = split_heading(node.name, documentation)[1]
                    yield Thing(kind, inside + node.name, signature(node.args, bound), below)
            case ast.ClassDef() if not _is_private(node.name):
                documentation = ast.get_docstring(node)
                if documentation:
                    yield Thing("class", inside + node.name, _constructor(node), documentation)
                yield from _things(list(_open(node.body)), f"{inside}{node.name}.")
            case _:
                pass


def _constructor(node: ast.ClassDef) -> str:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return signature(inner.args, bound=True)
    return ""


def _is_private(name: str) -> bool:
    return name.startswith("_")


def _last_name(decorator: ast.expr) -> str:
    match decorator:
        case ast.Call():
            return _last_name(decorator.func)
        case ast.Attribute():
            return decorator.attr
        case ast.Name():
            return decorator.id
        case _:
            return ""


def _imports(body: Sequence[ast.stmt], package: str) -> Iterator[Import]:
    for node in body:
        if not isinstance(node, ast.ImportFrom):
            continue
        source = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1])
            source = f"{base}.{source}".strip(".")
        for alias in node.names:
            if not _is_private(alias.asname or alias.name):
                yield Import(source, alias.name, alias.asname or alias.name)


def _offers(body: Sequence[ast.stmt]) -> frozenset[str] | None:
    found: set[str] | None = None
    for node in body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AugAssign(target=ast.Name(id="__all__"), value=value)
            ):
                if not isinstance(value, ast.List | ast.Tuple):
                    return None
                words = {item.value for item in value.elts if isinstance(item, ast.Constant)}
                found = (found or set()) | {word for word in words if isinstance(word, str)}
            case _:
                pass
    return None if found is None else frozenset(found)


def _late(body: Sequence[ast.stmt], module: str) -> Iterator[Thing]:
    """Documentation that is given to compiled functions afterwards: ``add_docstr(torch.abs, "...")`` of PyTorch,
    ``add_newdoc("numpy._core.multiarray", "array", "...")`` of NumPy.

    Only what shows by its first line, ``abs(input, ...)``, that it can be called, and has no documented attributes,
    which would make it a class. The name is absolute, with a colon before the part inside the module.
    """
    calls = [node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    given = [found for call in calls if (found := _given(call))]
    classes = {name for _, name, text in given if isinstance(text, ast.Tuple)}
    for place, name, text in given:
        if name in classes or _is_private(name) or place.partition(".")[0] != module.partition(".")[0]:
            continue
        written, below = split_heading(name, inspect.cleandoc(_plain(text)))
        if written and below:
            yield Thing("function", f"{place}:{name}", written, below)


def _given(call: ast.Call) -> tuple[str, str, ast.expr] | None:
    match call:
        case ast.Call(func=ast.Name(id="add_docstr"), args=[ast.Attribute() as target, text]):
            place, _, name = ast.unparse(target).rpartition(".")
            return place, name, text
        case ast.Call(
            func=ast.Name(id="add_newdoc"), args=[ast.Constant(value=str(place)), ast.Constant(value=str(name)), text]
        ):
            return place, name, text
        case _:
            return None


def _plain(node: ast.expr) -> str:
    """A string, or one that is ``.format``-ed only in whole lines: then without those."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            text = re.sub(r"(?m)^[ \t]*\{\w+\}[ \t]*\n", "", text)
            text = re.sub(r"\n(Args|Keyword args|Arguments):\n(?=\s*\n)", "", text)
            filled = re.search(r"(?<!\{)\{\w*\}(?!\})", text)
            return "" if filled else text.replace("{{", "{").replace("}}", "}")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _plain(left) + _plain(right)
        case _:
            return ""
