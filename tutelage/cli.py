"""The command line: reads what is asked, shows what comes, and says in one line what went wrong.

Exit codes: 0 done, 2 something that the user can mend, 130 stopped by Ctrl-C.

Nothing heavy is imported before it is needed: ``tutelage --help`` reads the stages' sources and imports none of them.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from tutelage.errors import SettingsError, TutelageError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``tutelage``; gives its exit code."""
    logging.basicConfig(level=os.environ.get("TUTELAGE_LOG", "WARNING").upper(), format="%(name)s: %(message)s")
    # Threads that spin long while they wait stand in the way as soon as another program wants a core; docs/LOG.md.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(given)
        sys.stdout.flush()
    except TutelageError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return _complain("stopped: give the same command to go on from here", 130)
    except BrokenPipeError:
        # Whoever read the output has gone. Python would say so when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _complain(f"{error.filename or 'writing'}: the disk is full: free some space and try again", 2)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _complain(f"{error.filename}: {(error.strerror or '').lower()}: name a place you may write to", 2)
        raise
    return code


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    verb, rest = given[0], given[1:]
    if verb in ("-V", "--version"):
        verb = "version"
    if verb in VERBS:
        return VERBS[verb][2](rest) or 0
    from tutelage import catalogue

    if verb in catalogue.names():
        return _stage(verb, rest)
    from tutelage.settings import nearest

    raise SettingsError(f"{verb!r} is no verb: {nearest(verb, [*VERBS, *catalogue.names()])}")


def _help() -> str:
    from tutelage import catalogue

    lines = ["Raise a language model: from raw text to an assistant that people prefer.", ""]
    lines += ["usage: tutelage VERB ...     (tutelage VERB --help says more)", ""]
    lines += [f"  {f'{verb} {what}':<18} {words}" for verb, (what, words, _) in VERBS.items()]
    lines += ["", "One stage by itself, without a course: tutelage STAGE --flags --output RUN", ""]
    stages = [name for name in catalogue.names() if name not in VERBS]
    lines += [f"  {name:<18} {catalogue.glance(name).summary}" for name in stages]
    return "\n".join(lines) + "\n"


def _run(given: list[str]) -> None:
    parser = _parser("run")
    parser.add_argument("course", type=Path, help="a course file, such as courses/first.yaml")
    parser.add_argument("--from", dest="from_stage", metavar="STAGE", help="do this stage and all after it again")
    parser.add_argument("--only", metavar="STAGE", help="do just this stage")
    parser.add_argument("--set", metavar="STAGE.KEY=VALUE", action="append", default=[], help="lay over the course")
    _add_runs(parser)
    _add_quiet(parser)
    options = parser.parse_args(given)
    overrides: list[tuple[str, str]] = []
    for text in options.set:
        key, found, value = text.partition("=")
        if not found:
            raise SettingsError(f"--set {text}: write stage.key=value")
        overrides.append((key, value))
    from tutelage import course

    loaded = course.Course.load(options.course, overrides)
    folder = course.run(loaded, options.from_stage, options.only, options.runs, options.quiet)
    _print(f"The report is in {folder / 'report.html'}")


def _stage(name: str, given: list[str]) -> int:
    from tutelage import catalogue

    stage = catalogue.stage(name)
    values = _flags(stage.recipe, f"tutelage {name}", catalogue.glance(name).summary, given)
    from tutelage import course, settings

    output, quiet = Path(values.pop("output")), bool(values.pop("quiet"))
    recipe = settings.check(stage.recipe, values, f"tutelage {name}")
    course.execute_stage(name, recipe, output, quiet)
    _print(f"The report is in {output / 'report.html'}")
    return 0


def _flags(recipe: type[Any], program: str, description: str, given: list[str]) -> dict[str, Any]:
    """A recipe's fields from flags, unchecked: tyro reads types, `settings.check` their bounds."""
    import dataclasses
    from typing import Annotated

    import tyro
    import yaml

    more: list[Any] = [
        ("output", Annotated[Path, tyro.conf.arg(help="Where the run goes: a folder that is made.")]),
        ("quiet", Annotated[bool, tyro.conf.arg(help="No progress bars.")], False),
    ]
    # A mapping is written as YAML text, which tyro would take as a choice of subcommands.
    hints = get_type_hints(recipe)
    mappings = [name for name, hint in hints.items() if dict in (get_origin(hint), *map(get_origin, get_args(hint)))]
    more += [(name, str, "") for name in mappings]
    command = dataclasses.make_dataclass("Command", more, bases=(recipe,), kw_only=True, frozen=True)
    shown = tyro.cli(command, prog=program, description=description, args=given, config=(tyro.conf.AvoidSubcommands,))
    values = {field.name: getattr(shown, field.name) for field in dataclasses.fields(shown)}
    for name in mappings:
        text = values.pop(name)
        if text:
            try:
                values[name] = yaml.safe_load(text)
            except yaml.YAMLError:
                raise SettingsError(f"--{name}: {text!r} is not YAML: write '{{key: value}}'") from None
    return values


def _status(given: list[str]) -> None:
    parser = _parser("status")
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="the folder of runs; default: runs")
    options = parser.parse_args(given)
    from tutelage.status import status

    _show_rich(status(options.runs))


def _trace(given: list[str]) -> None:
    parser = _parser("trace")
    parser.add_argument("what", help="a run or model folder, or the id of an answer, a record or a document")
    _add_runs(parser)
    parser.add_argument("--remove", action="store_true", help="of a document: what to do so that nothing has seen it")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(given)
    from tutelage import removal
    from tutelage.lineage import trace

    found = removal.plan(options.what, options.runs) if options.remove else trace(options.what, options.runs)
    if options.json:
        import json

        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    elif options.remove:
        _print(removal.shown(found))
    else:
        from tutelage.family import tree

        _show_rich(tree(found))


def _show(given: list[str]) -> None:
    parser = _parser("show")
    parser.add_argument("data", type=Path, help="records in JSONL, documents, or a run that holds some")
    parser.add_argument("--model", help="whose tokenizer and template to use; default: the course's tokenizer")
    parser.add_argument("--limit", type=int, default=3, help="how many; default: 3")
    parser.add_argument("--rule", default="", help="of a run of prepare: what this rule refused, or kept")
    parser.add_argument("--source", default="", help="of a run of prepare: documents whose source holds this")
    parser.add_argument("--language", default="", help="of a run of prepare: documents in it, such as zh")
    options = parser.parse_args(given)
    from rich.console import Console

    from tutelage.browse import Wanted
    from tutelage.show import show

    colours = Console().color_system is not None and not os.environ.get("NO_COLOR")
    wanted = Wanted(options.rule, options.source, options.language)
    for part in show(options.data, options.model, options.limit, brackets=not colours, wanted=wanted):
        _show_rich(part)


def _doctor(given: list[str]) -> None:
    _parser("doctor").parse_args(given)
    from tutelage.doctor import examine

    for finding in examine():
        _print(str(finding))


def _plan(given: list[str]) -> None:
    parser = _parser("plan")
    time = parser.add_mutually_exclusive_group()
    time.add_argument("--minutes", type=float, default=20, help="how long it may train; default: 20")
    time.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--memory", type=float, help="GiB that it may take; default: what is free")
    parser.add_argument("--vocab-size", type=int, default=4096, help="tokens of the tokenizer; default: 4096")
    parser.add_argument("--architecture", default="qwen3", help="a decoder of transformers; default: qwen3")
    parser.add_argument("--optimizer", default="adamw", help="adamw or muon; default: adamw")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a piece of text; default: 512")
    parser.add_argument("--batch-tokens", type=int, default=8192, help="tokens of a step; default: 8192")
    parser.add_argument("--json", action="store_true", help="for programs")
    values = vars(parser.parse_args(given))
    as_json, minutes, hours = (values.pop(name) for name in ("json", "minutes", "hours"))
    from tutelage.plan import Budget, plan, shown
    from tutelage.settings import check

    found = plan(check(Budget, {**values, "hours": minutes / 60 if hours is None else hours}, "tutelage plan"))
    if as_json:
        import dataclasses
        import json

        sys.stdout.write(json.dumps(dataclasses.asdict(found), indent=2) + "\n")
    else:
        _show_rich(shown(found))


def _chat(given: list[str]) -> None:
    parser = _parser("chat")
    parser.add_argument("model", type=Path, help="a run that made a model, a Hugging Face folder or a hub id")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest word; default: 0.7")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the likeliest words up to this probability")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="of an answer; default: 256")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers; default: 0")
    options = parser.parse_args(given)
    from tutelage.inference.language_model import Sampling
    from tutelage.settings import check

    drawn = {"temperature": options.temperature, "top_p": options.top_p}
    drawn |= {"max_new_tokens": options.max_new_tokens, "seed": options.seed}
    sampling = check(Sampling, drawn, "tutelage chat")
    _require_model(options.model)
    from tutelage.inference.engine import Engine
    from tutelage.run import content_hash
    from tutelage.web.completions import answers_beside
    from tutelage.web.terminal import chat

    here = options.model.exists()
    chat(
        Engine.load(options.model),
        sampling,
        answers=answers_beside(options.model) if here else None,
        model_hash=content_hash(options.model) if here else "",
    )


def _serve(given: list[str]) -> None:
    parser = _parser("serve")
    parser.add_argument("model", type=Path, help="a run that made a model, or a Hugging Face folder")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; default: 8000")
    parser.add_argument("--answers", type=Path, help="where answers are kept; default: beside the model's folder")
    options = parser.parse_args(given)
    _require_model(options.model)
    from tutelage.settings import check
    from tutelage.stages import serve
    from tutelage.web.completions import answers_beside

    values = {"model": options.model, "host": options.host, "port": options.port, "answers": options.answers}
    recipe = check(serve.Recipe, values, "tutelage serve")
    serve.serve(recipe.model, recipe.host, recipe.port, recipe.answers or answers_beside(recipe.model))


def _label(given: list[str]) -> None:
    from tutelage.label import main as label

    label(given)


def _require_model(path: Path) -> None:
    """Says what a mistyped path is before seconds are spent on imports."""
    from tutelage.course import is_hub_id
    from tutelage.errors import ModelError

    if not path.exists() and not is_hub_id(str(path)):
        half = path.with_name(path.name + ".partial").exists()
        hint = "it is not finished: run its course again" if half else "give a run that made a model: tutelage status"
        raise ModelError(f"{path}: no such model: {hint}")


def _version(given: list[str]) -> None:
    _parser("version").parse_args(given)
    from importlib.metadata import version

    _print(f"tutelage {version('tutelage')}")


VERBS: dict[str, tuple[str, str, Callable[[list[str]], int | None]]] = {
    "run": ("COURSE", "do what is not done of a course", _run),
    "status": ("[RUNS]", "what is done, half done, out of date or missing", _status),
    "chat": ("RUN", "talk to a model", _chat),
    "serve": ("RUN", "answer over HTTP: a page for people, an API for programs", _serve),
    "label": ("", "a site where people judge answers, and owners see whether to trust it", _label),
    "trace": ("ANYTHING", "where it comes from, and what came of it", _trace),
    "show": ("DATA", "what a trainer will see", _show),
    "plan": ("", "how large a model this machine pretrains in the time there is", _plan),
    "doctor": ("", "this machine: what works, what is missing and how to get it", _doctor),
    "version": ("", "the version of tutelage", _version),
}


def _parser(verb: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"tutelage {verb}", description=VERBS[verb][1], allow_abbrev=False)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of runs; default: runs")


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no samples")


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show_rich(part: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(part)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"tutelage: {text}\n")
    return code
