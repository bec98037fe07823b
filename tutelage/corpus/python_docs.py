"""The documentation of this very Python: its standard library, its language reference, its installed packages.

Nothing is downloaded, and nothing but the standard library is imported: source files are read as syntax. Only what
is public counts. A function that lives in a private module but is offered by a public one goes by its public name,
``numpy.sum`` and not ``numpy._core.fromnumeric.sum``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import platform
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import Distribution, distributions
from multiprocessing import get_context, parent_process
from pathlib import Path, PurePath
from types import ModuleType
from typing import NamedTuple

import pyarrow as pa

from tutelage.corpus import licences
from tutelage.corpus.hashing import replaced
from tutelage.corpus.languages import language
from tutelage.corpus.python_source import Module, Thing, is_public, plain_signature, read, split_heading
from tutelage.records import Document, identify
from tutelage.run import Progress

STDLIB_LICENCE = "PSF-2.0"

_UNREAD = frozenset({
    "tests", "test", "testdata", "_vendor", "vendor", "idlelib", "lib2to3", "turtledemo", "site-packages",
    "dist-packages", "_bundled", "__pycache__", "conftest.py", "__main__.py", "setup.py", "antigravity.py",
})  # fmt: skip
_NOT_IMPORTED = frozenset({"readline"})
"""Extension modules that do something to the terminal when imported."""

WORKERS = min(8, os.cpu_count() or 1)
"""Processes that read source files; the documents do not depend on it."""


class Package(NamedTuple):
    """What is installed, and under which licence."""

    name: str
    version: str
    licence: str
    stated: str
    """Where the licence was found."""

    @property
    def source(self) -> str:
        """How documents name it: ``python:numpy==2.4.6``."""
        return f"python:{self.name}=={self.version}"


class _File(NamedTuple):
    path: Path
    module: str
    package: Package


def documents(progress: Progress, workers: int = WORKERS) -> tuple[list[Document], list[Package]]:
    """All documents of this environment, sorted by name, and the packages they are from.

    The text of a document is a heading, its qualified name with the signature, a blank line, and the docstring.
    """
    files = [*_stdlib_files(), *_installed_files()]
    by_package: dict[Package, dict[str, Module]] = {}
    for file, module in zip(files, _read_all(files, progress, workers), strict=True):
        if module:
            by_package.setdefault(file.package, {})[file.module] = module
    stdlib = _stdlib()
    compiled = {module.name: module for module in _compiled_modules()}
    by_package[stdlib] = compiled | by_package.get(stdlib, {})
    found: dict[str, Document] = {}
    for package in sorted(by_package):
        for document in _of_package(package, by_package[package]):
            found.setdefault(document.metadata["name"], document)
    ordered = [found[name] for name in sorted(found)]
    return [*ordered, *_topics(stdlib)], sorted(by_package)


def body(document: Document) -> str:
    """The text without the heading that was put above it; the text itself for any other document."""
    if document.metadata.get("kind") and document.metadata.get("name"):
        return document.text.partition("\n\n")[2] or document.text
    return document.text


def bodies(documents: Sequence[Document], texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The bodies of documents, of which the texts are a column already."""
    found = {row: text for row, one in enumerate(documents) if (text := body(one)) is not one.text}
    return replaced(texts, found)


def _of_package(package: Package, modules: dict[str, Module]) -> Iterator[Document]:
    modules = dict(modules)
    _hand_over_late(modules)
    names = _public_names(modules)
    for module in sorted(modules.values(), key=lambda module: module.name):
        for thing in module.things:
            top, dot, rest = thing.name.partition(".")
            if top and (module.name, top) in names:
                place, top = names[module.name, top]
                yield _document(package, thing._replace(name=top + dot + rest), place)
            elif is_public(module.name):
                yield _document(package, thing, module.name)


def _document(package: Package, thing: Thing, module: str) -> Document:
    # Nobody writes builtins.len.
    name = thing.name if module == "builtins" and thing.name else f"{module}.{thing.name}".strip(".")
    text = f"{name}{thing.signature}\n\n{thing.text}"
    return Document(
        id=identify(name, text),
        text=text,
        source=package.source,
        licence=package.licence,
        language=language(thing.text),
        metadata={
            "kind": thing.kind,
            "name": name,
            "module": module,
            "package": module.partition(".")[0],
            "signature": thing.signature,
        },
    )


def _hand_over_late(modules: dict[str, Module]) -> None:
    """Moves what was documented from elsewhere, ``numpy._core.multiarray:array``, to its own module."""
    for module in list(modules.values()):
        late = [thing for thing in module.things if ":" in thing.name]
        if not late:
            continue
        kept = tuple(thing for thing in module.things if ":" not in thing.name)
        modules[module.name] = replace(module, things=kept)
        for thing in late:
            place, _, name = thing.name.partition(":")
            home = modules.get(place) or Module(place, package=False)
            if not any(known.name == name for known in home.things):
                modules[place] = replace(home, things=(*home.things, thing._replace(name=name)))


def _public_names(modules: dict[str, Module]) -> dict[tuple[str, str], tuple[str, str]]:
    """(defining module, name) -> (better module, name), the shortest path first."""
    defined = {
        (module.name, thing.name)
        for module in modules.values()
        for thing in module.things
        if thing.name and "." not in thing.name
    }
    names: dict[tuple[str, str], tuple[str, str]] = {}
    public = [module for module in modules.values() if is_public(module.name)]
    for module in sorted(public, key=lambda module: (module.name.count("."), module.name)):
        for found in module.imports:
            if found.name == "*":
                offered = _star(found.module, modules)
            elif module.offers is None and not module.package:
                continue
            else:
                offered = [(found.name, found.as_name)]
            for name, as_name in offered:
                if module.offers is not None and as_name not in module.offers and found.name != "*":
                    continue
                home = _home(found.module, name, modules, defined, set())
                if home and _is_better(module.name, home[0]):
                    names.setdefault(home, (module.name, as_name))
    return names


def _is_better(offering: str, defining: str) -> bool:
    """Whether users would rather import from the first: the second is private, or deeper in the same part of a package.

    Not from the top of the package: ``torch.nn.Linear`` for ``torch.nn.modules.linear.Linear``, but ``json.decoder``
    keeps its own, so that `part` stays what it is.
    """
    if not is_public(defining):
        return True
    return defining.startswith(offering + ".") and part(offering) == part(defining)


def part(module: str) -> str:
    """The part of a package that a module belongs to, its first two names: "torch.nn"."""
    return ".".join(module.split(".")[:2])


def _star(source: str, modules: dict[str, Module]) -> list[tuple[str, str]]:
    """The names that ``from source import *`` may bring, sorted."""
    module = modules.get(source)
    if module is None:
        return []
    names = {thing.name for thing in module.things if thing.name and "." not in thing.name}
    names |= {found.as_name for found in module.imports if found.name != "*"}
    if module.offers is not None:
        names &= module.offers
    return [(name, name) for name in sorted(names)]


def _home(
    source: str, name: str, modules: dict[str, Module], defined: set[tuple[str, str]], seen: set[tuple[str, str]]
) -> tuple[str, str] | None:
    """Where a name that a module offers is defined, following imports."""
    if (source, name) in defined:
        return source, name
    module = modules.get(source)
    if module is None or (source, name) in seen:
        return None
    seen.add((source, name))
    for found in module.imports:
        if found.as_name == name or found.name == "*":
            home = _home(found.module, name if found.name == "*" else found.name, modules, defined, seen)
            if home:
                return home
    return None


def _read_all(files: list[_File], progress: Progress, workers: int) -> Iterator[Module | None]:
    work = ((file.path, file.module) for file in files)
    if workers < 2:
        yield from progress((read(*item) for item in work), "reading Python", len(files))
        return
    # Fresh processes: forking one that has threads, as torch starts them, is not safe.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker)
    try:
        paths, names = zip(*work, strict=True)
        yield from progress(pool.map(read, paths, names, chunksize=64), "reading Python", len(files))
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it: a worker whose parent was killed would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _folders() -> list[str]:
    named = ("site-packages", "dist-packages")
    known = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    return sorted({folder for folder in known if Path(folder).name in named and Path(folder).is_dir()})


def _installed_files() -> Iterator[_File]:
    found: dict[Path, _File] = {}
    for distribution in sorted(distributions(path=_folders()), key=lambda one: (one.name, one.version)):
        package = _package(distribution)
        for file in distribution.files or []:
            name = _module_name(file)
            if name:
                path = Path(str(distribution.locate_file(file)))
                found.setdefault(path, _File(path, name, package))
    yield from sorted((file for file in found.values() if file.path.is_file()), key=lambda file: file.module)


def _package(distribution: Distribution) -> Package:
    licence, stated = licences.of_distribution(distribution)
    return Package(distribution.name, distribution.version, licence, stated)


def _stdlib() -> Package:
    return Package("stdlib", platform.python_version(), STDLIB_LICENCE, "the Python licence")


def _stdlib_files() -> Iterator[_File]:
    folder = Path(sysconfig.get_path("stdlib"))
    package = _stdlib()
    for path in sorted(folder.rglob("*.py")):
        name = _module_name(path.relative_to(folder))
        if name and name.partition(".")[0] in sys.stdlib_module_names and name != "pydoc_data.topics":
            yield _File(path, name, package)


def _module_name(file: PurePath) -> str | None:
    """The dotted name of a module file, or None where it is none, or a test."""
    if file.suffix != ".py" or not _UNREAD.isdisjoint(file.parts) or file.name.startswith("test_"):
        return None
    parts = file.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def _compiled_modules() -> Iterator[Module]:
    """The modules of the standard library that are not written in Python: imported, for their docstrings."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    folder = stdlib / "lib-dynload"
    extensions = {file.name.partition(".")[0] for file in folder.glob("*.so")}
    with warnings.catch_warnings(), _only_from(str(stdlib), str(folder)):
        warnings.simplefilter("ignore")
        for name in sorted((extensions | set(sys.builtin_module_names)) & sys.stdlib_module_names - _NOT_IMPORTED):
            if name.startswith(("_test", "__")):
                continue
            try:
                module = importlib.import_module(name)
            except ImportError:
                # Built, but a library that it needs is missing on this machine.
                continue
            if name in sys.builtin_module_names or Path(str(module.__file__)).parent == folder:
                yield Module(name, package=False, things=tuple(_compiled_things(module)))


@contextlib.contextmanager
def _only_from(*folders: str) -> Generator[None]:
    """Imports only from these folders for a while: a user's own ``array.py`` must not pass for the real one."""
    before = sys.path
    sys.path = list(folders)
    try:
        yield
    finally:
        sys.path = before


def _compiled_things(module: ModuleType) -> Iterator[Thing]:
    if module.__doc__:
        yield Thing("module", "", "", inspect.cleandoc(module.__doc__))
    for name, value in sorted(vars(module).items()):
        home = getattr(value, "__module__", None) or module.__name__
        if home != module.__name__:
            # collections.deque is made in _collections, and says where it belongs; others are only passed on.
            if is_public(module.__name__) or not isinstance(home, str) or not is_public(home):
                continue
            name = f"{home}:{name}"
        if inspect.isclass(value):
            yield from _compiled("class", name, value)
            for inner, member in sorted(vars(value).items()):
                if is_public(inner) and (inspect.ismethoddescriptor(member) or inspect.isbuiltin(member)):
                    yield from _compiled("method", f"{name}.{inner}", member)
        elif inspect.isbuiltin(value):
            yield from _compiled("function", name, value)


def _compiled(kind: str, name: str, value: object) -> Iterator[Thing]:
    last = name.rpartition(":")[2].rpartition(".")[2]
    documentation = getattr(value, "__doc__", None)
    if not is_public(last) or not isinstance(documentation, str) or not documentation.strip():
        return
    written = getattr(value, "__text_signature__", None)
    if isinstance(written, str):
        yield Thing(kind, name, plain_signature(written), inspect.cleandoc(documentation))
    else:
        yield Thing(kind, name, *split_heading(last, inspect.cleandoc(documentation)))


def _topics(package: Package) -> Iterator[Document]:
    """The language reference, as ``help()`` knows it."""
    from pydoc_data.topics import topics

    listed: dict[str, str] = topics
    for name in sorted(listed):
        text = inspect.cleandoc(listed[name]).strip()
        document = _document(package, Thing("topic", name, "", text), "pydoc_data.topics")
        metadata = document.metadata | {"name": name, "package": "python"}
        text = f"{name}\n\n{text}"
        yield replace(document, id=identify(name, text), text=text, metadata=metadata)
