"""Pages, and the one way in which what a model or a person wrote becomes part of one.

Markdown is rendered without HTML, and what comes out goes through a list of what is allowed: text with its structure,
and nothing that asks anything of anyone. A picture is named and not loaded, an address is shown and leads nowhere: both
would tell a stranger who reads what.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from tutelage.errors import MissingExtraError
from tutelage.web.label.visit import Visit
from tutelage.web.label.words import words

try:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
except ModuleNotFoundError as error:
    raise MissingExtraError(str(error.name), "label", "the labelling site") from None

FOLDER = Path(__file__).parents[1] / "templates" / "label"
LONGEST_MARKDOWN = 200_000
"""Beyond this a text is shown as it is: what is that long is no prose."""
_REMEMBERED = 20_000

_TAGS = set(
    "p br strong em s code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 table thead tbody tr th td hr span".split()
)
_ATTRIBUTES = {"ol": {"start"}, "span": {"class"}}
_CLEANER = nh3.Cleaner(tags=_TAGS, attributes=_ATTRIBUTES, link_rel=None, url_schemes=set())


def rendered(text: str) -> str:
    """HTML of a text in Markdown, safe to put into a page."""
    return _rendered(text) if len(text) <= _REMEMBERED else _render(text)


def _render(text: str) -> str:
    if len(text) > LONGEST_MARKDOWN:
        return f"<pre>{escape(text)}</pre>"
    return _CLEANER.clean(_markdown().render(text))


@lru_cache(maxsize=4096)
def _rendered(text: str) -> str:
    return _render(text)


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("link_open", _nothing)
    markdown.add_render_rule("link_close", _address)
    return markdown


def _image(_self: RendererHTML, tokens: Sequence[Token], place: int, *_: Any) -> str:
    token = tokens[place]
    return (
        f'<span class="media">🖼 {escape(token.content)} <code>{escape(str(token.attrGet("src") or ""))}</code></span>'
    )


def _nothing(*_: Any) -> str:
    return ""


def _address(_self: RendererHTML, tokens: Sequence[Token], place: int, *_: Any) -> str:
    """After a link's text where it leads, unless the text is that."""
    depth, inner = 1, ""
    for token in reversed(tokens[:place]):
        depth += {"link_close": 1, "link_open": -1}.get(token.type, 0)
        if depth == 0:
            target = str(token.attrGet("href") or "")
            same = inner.strip().removeprefix("mailto:") == target.removeprefix("mailto:")
            return "" if same else f" <code>{escape(target)}</code>"
        inner = token.content + inner
    return ""


def page(visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
    """A page in the visitor's language."""
    html = _environment().get_template(f"{template}.html").render(
        w=words(visit.language), language="zh-CN" if visit.language == "zh" else "en", lang=visit.language,
        csrf=visit.csrf, session=visit.held_session, member=visit.held_member,
        path=visit.request.url.path, **values,
    )  # fmt: skip
    return HTMLResponse(html, status)


def day(micros: int | None) -> str:
    """A time as people read it, in UTC."""
    return "" if micros is None else datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def script_data(value: Mapping[str, Any]) -> str:
    """Data for a page's own script, to stand in an attribute."""
    return json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["markdown"] = _markup
    environment.filters["day"] = day
    environment.filters["data"] = script_data
    return environment


def _markup(text: str) -> Markup:
    return Markup(rendered(text))
