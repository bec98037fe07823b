"""The chat page: one HTML page, in the reader's language. Its words are here; what it does is in static/chat.js."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

Language = Literal["en", "zh"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "greeting": "What would you like to know?",
        "caution": "A language model answers here. It can be wrong, so check what matters.",
        "placeholder": "Write a message",
        "send": "Send",
        "stop": "Stop",
        "hint": "Enter sends, Shift+Enter begins a new line",
        "new": "New chat",
        "settings": "Settings",
        "system": "Instructions to the model",
        "system_hint": "For example: answer in one sentence.",
        "temperature": "Temperature",
        "temperature_hint": "0 is steady, 1 is lively",
        "you": "You",
        "up": "Good answer",
        "down": "Bad answer",
        "again": "Answer again",
        "copy": "Copy",
        "copied": "Copied",
        "thanks": "Noted, thank you",
        "compare": "And this one, compared with the last?",
        "better": "Better",
        "same": "The same",
        "worse": "Worse",
        "empty": "The model ended without a word.",
        "cut": "The answer was cut at its greatest length.",
        "stopped": "Stopped",
        "busy": "Many people are asking. Try again in a moment.",
        "unreachable": "The server cannot be reached. Try again.",
        "conversation": "Conversation",
        "other_language": "中文",
        "no_script": "This page needs JavaScript, which is switched off.",
    },
    "zh": {
        "greeting": "想聊点什么？",
        "caution": "这里由语言模型作答，可能会出错；重要的内容请自行核实。",
        "placeholder": "写下你的消息",
        "send": "发送",
        "stop": "停止",
        "hint": "回车发送，Shift+回车换行",
        "new": "新对话",
        "settings": "设置",
        "system": "给模型的指示",
        "system_hint": "例如：只用一句话回答。",
        "temperature": "温度",
        "temperature_hint": "0 更稳定，1 更活泼",
        "you": "你",
        "up": "答得好",
        "down": "答得不好",
        "again": "重新回答",
        "copy": "复制",
        "copied": "已复制",
        "thanks": "已记下，谢谢",
        "compare": "与上一个回答相比，这个怎么样？",
        "better": "更好",
        "same": "差不多",
        "worse": "更差",
        "empty": "模型什么也没说就结束了。",
        "cut": "回答达到长度上限，被截断了。",
        "stopped": "已停止",
        "busy": "现在提问的人较多，请稍后再试。",
        "unreachable": "连不上服务器，请重试。",
        "conversation": "对话",
        "other_language": "English",
        "no_script": "本页需要 JavaScript，而它已被关闭。",
    },
}


def page(request: Request, model: str, temperature: float, feedback: bool) -> Response:
    """The page. Without feedback it shows no thumbs; the temperature is where its slider begins."""
    asked = request.query_params.get("lang")
    language: Language = asked if asked in ("en", "zh") else preferred(request.headers.get("accept-language", ""))
    other = "zh" if language == "en" else "en"
    html = _template().render(
        words=WORDS[language], language="zh-CN" if language == "zh" else "en", other=other, model=model,
        temperature=temperature, feedback=feedback,
    )  # fmt: skip
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Language", "Content-Language": language}
    return HTMLResponse(html, headers=headers)


def preferred(accept_language: str) -> Language:
    """The first of our languages in an ``Accept-Language`` header, by weight; English if it names none."""
    wanted: list[tuple[float, Language]] = []
    for entry in accept_language.split(","):
        tag, _, weight = entry.strip().partition(";q=")
        primary = tag.strip().lower().split("-")[0]
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if quality > 0 and (primary == "en" or primary == "zh"):
            wanted.append((-quality, primary))
    # A stable sort: at equal weight the one named first wins.
    return min(wanted, key=lambda entry: entry[0])[1] if wanted else "en"


@cache
def _template() -> Template:
    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("chat.html")
