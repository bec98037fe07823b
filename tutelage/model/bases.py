"""Where an adapter's base stands on the disk.

peft keeps a path as it was given, which breaks as soon as the working directory is another one. So our adapter folders
also hold ``base.json``: the path from the folder to its base, and the hash of the base's weights. The base is looked
for there, then where peft's path points, then among the older runs that were set aside; and it is taken only if it
has the very weights that the adapter was trained on. No absolute path is written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tutelage.errors import ModelError, RunError
from tutelage.run import combine, file_hash, read_done, write_json

FILE = "base.json"


def note(folder: Path, base: str) -> str:
    """Writes where the base of the adapter in a folder is; gives its path from here, as peft wants it, or its hub id.

    base: a model folder, or a hub id.
    """
    place = Path(base)
    if not place.is_dir():
        write_json(folder / FILE, {"hub": base})
        return base
    way = os.path.relpath(place.absolute(), folder.absolute())
    write_json(folder / FILE, {"path": Path(way).as_posix(), "weights": weights_hash(place)})
    return Path(os.path.relpath(place.absolute())).as_posix()


def find(folder: Path | str, named: str = "") -> Path | str:
    """The base of an adapter folder, or its hub id. ``named``: what peft's config calls it, for folders made elsewhere.

    Raises:
        ModelError: it is not there, or has other weights than those the adapter was trained on.
    """
    folder = Path(folder)
    if not (folder / FILE).exists():
        inside = Path(os.path.normpath(folder.absolute() / named))
        return inside if named and not Path(named).exists() and inside.is_dir() else named
    try:
        known = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if "hub" in known:
            return str(known["hub"])
        first, wanted = Path(os.path.normpath(folder.absolute() / str(known["path"]))), str(known["weights"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{folder / FILE}: damaged: it should hold path and weights of the adapter's base") from None
    older = sorted((first.parent / ".previous").glob(f"{first.name}-*"))
    places = [place for place in (first, Path(named or first), *older) if place.is_dir()]
    for place in places:
        if weights_hash(place) == wanted:
            return _shown(place)
    if not places:
        raise ModelError(
            f"{folder}: its base model is gone: it was {known['path']} from this folder: put it back there"
        )
    raise ModelError(
        f"{folder}: its base {_shown(places[0])} has other weights than those it was trained on: put the old ones "
        "back, or train the adapter again"
    )


def weights_hash(path: Path) -> str:
    """One hash of the safetensors files of a model folder; of a finished run without reading them."""
    try:
        known = dict(read_done(path)["files"])
    except (RunError, KeyError, TypeError, ValueError):
        known = {}
    return combine({file.name: known.get(file.name) or file_hash(file) for file in sorted(path.glob("*.safetensors"))})


def _shown(place: Path) -> Path:
    """As seen from here, if it stands below."""
    near = Path(os.path.relpath(place))
    return place if near.parts[:1] == ("..",) else near
