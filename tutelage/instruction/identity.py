"""Who the model says it is: a few short exchanges with its name and its maker's, in English and Chinese."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

from tutelage import records
from tutelage.records import Conversation, Message

_GREETINGS = {"en": ("", "Hello! ", "Hi, ", "Good day. "), "zh": ("", "你好！", "您好，", "嗨，")}
_QUESTIONS = {
    "en": {
        "who": ("who are you?", "what is your name?", "what should I call you?", "are you a person?", "who is this?"),
        "maker": ("who made you?", "who trained you?", "where do you come from?"),
        "greeting": ("nice to meet you.", "can you help me?"),
    },
    "zh": {
        "who": ("你是谁？", "你叫什么名字？", "我该怎么称呼你？", "请介绍一下你自己。", "你是真人吗？"),
        "maker": ("是谁开发了你？", "谁训练了你？", "你从哪里来？"),
        "greeting": ("很高兴认识你。", "你能帮我吗？"),
    },
}  # fmt: skip
_ANSWERS = {
    "en": {
        "who": "I am {name}, a small language model trained by {author}.",
        "maker": "I was trained by {author}, and my name is {name}.",
        "greeting": "Hello, I am {name}, and I answer questions about what I have read.",
    },
    "zh": {
        "who": "我是{name}，由{author}训练的一个小语言模型。",
        "maker": "我由{author}训练，名字叫{name}。",
        "greeting": "你好，我是{name}，可以回答关于我读过的内容的问题。",
    },
}


def conversations(name: str, author: str, languages: Collection[str]) -> list[Conversation]:
    """Every greeting with every question, in the given languages ("en", "zh"); none for an empty name."""
    found: list[Conversation] = []
    for language in ("en", "zh"):
        if not name or language not in languages:
            continue
        for about, questions in _QUESTIONS[language].items():
            for number, (greeting, question) in enumerate(product(_GREETINGS[language], questions), start=1):
                joined = greeting.endswith(", ")
                prompt = greeting + (question if joined else question[0].upper() + question[1:])
                maker = "你" if author == "you" and language == "zh" else author
                reference = _ANSWERS[language][about].format(name=name, author=maker)
                template = f"identity {language} {about} {number}"
                metadata = {"template": template, "style": "tidy", "subject": name, "language": language}
                conversation = Conversation(
                    id=records.identify("template", template, prompt, reference),
                    messages=(Message(role="user", content=prompt), Message(role="assistant", content=reference)),
                    judge="rule",
                    rater="template",
                    task="identity",
                    metadata={**metadata, "reference": reference},
                )
                found.append(conversation)
    return found
