"""What the names of elements say of what is in them: the classes and ids that web pages use, in any language."""

from __future__ import annotations

import re
from functools import lru_cache

MAIN, NOTHING, SELDOM, NEVER, COMMENTS = 2, 0, -1, -2, -3
"""How sure a name is: of the main text, of nothing, of something else, and of what readers wrote."""


def _names_of(words: str) -> re.Pattern[str]:
    """Names that are one of these words, or begin or end with one."""
    either = "|".join(words.split())
    return re.compile(rf"(?:^|\s)(?:(?:{either})(?:[_-][^\s]*)?|[^\s]*[_-](?:{either}))(?=\s|$)")


_NEVER = _names_of(
    "share sharing sharedaddy social socials addtoany related relatedposts recommended recommendations? newsletter "
    "subscribe subscription breadcrumbs? pagination pager cookies? consent gdpr ads? advert advertisement advertising "
    "sponsor sponsored teasers? sidebar nav navbar navi navigation menu submenu toolbar footer popup modal login "
    "signup taglist tagcloud copyright disclaimer screen-reader-text sr-only visually-hidden outbrain taboola "
    "ratings? voting headerlink catlinks mw-editsection navbox noprint nocontent read-?more trending popular "
    "most-?read author-?(?:box|bio|info) post-?nav jump-?link"
)
"""Names of what is never the main text, unless most of it is there."""
_SELDOM = _names_of(
    "banner promo widget widgets bottom overlay print tags? meta postmeta byline author bio legal skip toc search "
    "hatnote more prev previous next similar also latest hidden"
)
"""Names of what seldom is; a box of sentences without links is believed more than these."""
_COMMENTS = _names_of("comments? comment-?list commentlist kommentare? respond disqus trackbacks? pingbacks?")
"""Names of what readers wrote."""
_BODY = re.compile(
    r"(?:^|\s)(?:[^\s]*[_-])?(?:articlebody|article[_-]*(?:body|content|text|main)|post[_-]*(?:body|content|text)"
    r"|entry[_-]*(?:content|body|text)|story[_-]*(?:body|content|text)|blog[_-]*content|content[_-]*body"
    r"|main[_-]*(?:content|text)|mw-parser-output|bodytext|body-text|rich_media_content|markdown-body)(?=\s|$)"
)
_MODIFIER = re.compile(r"--[^\s]*")
_BUILDERS = re.compile(r"(?:^|\s)(?:elementor|et_pb|vc|wpb|fusion|wp-block|field)[_-][^\s]*")
"""Names that page builders give to everything."""
AFTERWORD = re.compile(
    r"[^\w]*(?:related(?: (?:articles?|posts?|stories|topics?|content|links?|reading|news))?"
    r"|read (?:more|further|next|also)\b.*"
    r"|more (?:from|on|stories|articles|news)\b.*|you (?:may|might|could) (?:also )?(?:like|be interested|enjoy).*"
    r"|recommended(?: (?:for you|articles?|reading|posts?))?|further reading"
    r"|popular (?:posts?|articles?|now)|trending(?: now)?"
    r"|share (?:this|on|via)\b.*|leave a (?:reply|comment).*|(?:\d+ )?comments?|about the author"
    r"|subscribe.*|sign up for.*"
    r"|follow (?:us|me)\b.*|mehr zum thema.*|auch interessant.*"
    r"|das (?:thema )?könnte (?:sie|dich|euch) (?:auch )?interessieren.*"
    r"|lesen sie (?:auch|hier|mehr|dazu|weiter).*"
    r"|(?:audios?|videos?|photos?|pictures)(?: and \w+)? on (?:the|this) (?:topic|subject)"
    r"|ähnliche (?:beiträge|artikel)|weitere (?:artikel|beiträge|informationen)"
    r"|(?:\d+ )?kommentare?|kommentar schreiben"
    r"|à lire aussi.*|lire aussi.*|sur le même sujet|articles? (?:liés|similaires)"
    r"|te puede interesar|artículos relacionados"
    r"|相关(?:阅读|文章|推荐|新闻|链接|内容)|推荐(?:阅读|文章)|猜你喜欢|热门(?:文章|推荐|阅读)|更多(?:文章|精彩|内容|推荐).*"
    r"|延伸阅读"
    r"|相關(?:閱讀|文章|推薦|新聞)|推薦(?:閱讀|文章)|延伸閱讀|分享到|上一篇.*|下一篇.*|发表评论"
    r"|網友評論|网友评论|最新评论|免责声明|版权声明.*"
    r")[\s:：.…>»]*$",
    re.IGNORECASE,
)
"""Headings of what is put under an article."""
DATE = re.compile(
    r"(?=\D{0,20}\d{1,4}\D{1,12}\d)(?:[\d\s.,/:|·•–-]|年|月|日|星期.|AM|PM|am|pm|Uhr|um|at|on|den|st|nd|rd|th"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|(?:Mon|Diens|Donners|Frei|Sams|Sonn)tag|Mittwoch"
    r"|Jan(?:uary|uar)?|Feb(?:ruary|ruar)?|Mar(?:ch)?|März|Apr(?:il)?|Ma[iy]|June?|Juni|July?|Juli|Aug(?:ust)?"
    r"|Sept?(?:ember)?|O[ck]t(?:ober)?|Nov(?:ember)?|De[cz](?:ember)?)+"
)
"""A date or a time at the beginning of a line."""
CREDIT = re.compile(
    r".*\b(?:reuters|AFP|getty images|dpa|AP photo|shutterstock|istock|xinhua|imago)\b.*$|.*新华社.{0,4}发$"
    r"|.*\b(?:follow|find|keep up with|reach) (?:me|us|him|her|them)\b.*\b(?:twitter|facebook|instagram|linkedin)\b.*$"
    r"|(?:作者|记者|記者|责任?编辑|責任?編輯|图片来源|圖片來源|图源|fotos?|photos?|(?:beitrags)?bild|image|picture)\s*[:：©/／]",
    re.IGNORECASE,
)
"""Whose picture or text it is."""
BYLINE = re.compile(r"(?:(?:posted |written |published )?by|von|par|por|文[/／]) [^.!?。！？]*$", re.IGNORECASE)
"""Who wrote it, if the line has a link or a date too: a verse may begin so."""
_ROLES = {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog", "menu", "menubar",
          "toolbar", "tablist"}  # fmt: skip
_PROPERTIES = ("articleBody", "text", "mainEntity")
"""Names that schema.org has for the main text."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


@lru_cache(maxsize=65536)
def _hint(names: str) -> int:
    """What the class and id of an element say of it."""
    names = _BUILDERS.sub(" ", _MODIFIER.sub("", names.lower()))
    if _COMMENTS.search(names):
        return COMMENTS
    if _BODY.search(names):
        return MAIN
    return NEVER if _NEVER.search(names) else SELDOM if _SELDOM.search(names) else NOTHING


def judged(attributes: dict[str, str | None], tag: str) -> int | None:
    """The hint of an element, or None if nobody sees it."""
    if not attributes:
        return NEVER if tag in ("aside", "footer") else NOTHING
    if "hidden" in attributes or _HIDDEN.search(attributes.get("style") or ""):
        return None
    if attributes.get("role") in _ROLES:
        return NEVER
    if attributes.get("itemprop") in _PROPERTIES or attributes.get("role") in ("main", "article"):
        return MAIN
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    hint = _hint(names) if len(names) > 1 else NOTHING
    return min(hint, NEVER) if tag in ("aside", "footer") else hint


def is_seen(attributes: dict[str, str | None], tag: str) -> bool:
    """Whether an element within a line belongs to it."""
    hint = judged(attributes, tag)
    return hint is not None and hint > NEVER
