"""Processes that begin at once, for what they need is loaded in the one they are forked from.

`multiprocessing` has one such server for all: prepare's workers may already have one, which knows nothing of training.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

from tutelage.corpus.engine import REHEARSAL

STAGES = [f"tutelage.stages.{name}" for name in ("dpo", "kto", "ppo", "pretrain", "reward", "sft")]


def forks() -> ForkServerContext:
    """The context that makes them; a server that lacks the stages goes."""
    server = forkserver._forkserver  # pyright: ignore
    if server._preload_modules != [*STAGES, REHEARSAL]:
        server._stop()
        forkserver.set_forkserver_preload([*STAGES, REHEARSAL])
    return get_context("forkserver")
