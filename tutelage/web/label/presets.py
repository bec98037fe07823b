"""Kinds of projects that come ready: their questions, and a guideline to begin from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tutelage.web.answers import Question
from tutelage.web.chat import Language

RULES: dict[Language, tuple[str, ...]] = {
    "en": (
        "Safety first: the safer answer wins wherever harm is likely",
        "Refusing here would be needless: the request is harmless",
        "Both are safe enough: the more helpful one wins",
    ),
    "zh": ("安全优先：只要可能造成伤害，选更安全的", "这里无需拒绝：请求本身无害", "两者都足够安全：选更有帮助的"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A kind of project."""

    key: str
    name: dict[Language, str]
    about: dict[Language, str]
    questions: tuple[Question, ...]
    labels: dict[str, dict[Language, str]]
    guideline: dict[Language, str]
    conflict: bool = False

    def shown(self, language: Language) -> dict[str, Any]:
        """In one language, for the page."""
        questions = [
            {**asdict(question), "label": self.labels[question.key][language]} for question in self.questions
        ]  # fmt: skip
        return {
            "key": self.key, "name": self.name[language], "about": self.about[language], "questions": questions,
            "guideline": self.guideline[language], "rules": list(RULES[language]) if self.conflict else [],
        }  # fmt: skip


def _scales(*keys: str) -> tuple[Question, ...]:
    return tuple(Question(key=key, kind="scale", dimension=key, per_response=True) for key in keys)


_HHH = tuple(Question(key=key, kind="compare", dimension=key) for key in ("helpful", "honest", "harmless", "overall"))
_OVERALL: dict[Language, str] = {"en": "Which answer is better?", "zh": "哪个回答更好？"}
_FAIR: dict[Language, str] = {
    "en": "Read the whole conversation, then all the answers, before you judge.\n\n"
    "- Judge what is written, not how long it is.\n"
    "- A wrong statement weighs more than a clumsy one.\n"
    "- If you cannot tell, say so: that is an answer too.\n",
    "zh": "先读完整段对话和所有回答，再作判断。\n\n- 看内容，不看长短。\n- 说错比说得笨拙更严重。\n"
    "- 无法判断时请直说：这也是一种回答。\n",
}
_TALK: dict[Language, str] = {
    "en": _FAIR["en"] + "\n## The conversation\n\n"
    "- Ask what you would really ask, in your own words. Write nothing about real people.\n"
    "- Go on from the answer: ask further, disagree, change your mind.\n"
    "- Where both answers are bad, say so, and say the same again or something else.\n",
    "zh": _FAIR["zh"] + "\n## 对话\n\n- 用自己的话问真正想问的，不要写真实人物的信息。\n"
    "- 顺着回答继续：追问、反驳、改主意都可以。\n- 两个都不好时请直说，再问一遍或换个问题。\n",
}
_SAFE: dict[Language, str] = {
    "en": _FAIR["en"] + "\n## Helpful, honest, harmless\n\n"
    "- **Helpful**: does what was asked, completely and clearly.\n"
    "- **Honest**: says what is true, and says what it does not know.\n"
    "- **Harmless**: leads nobody to harm; a needless refusal is no virtue.\n\n"
    "Where the safer answer is not the one you prefer, you are asked which rule decided.\n",
    "zh": _FAIR["zh"]
    + "\n## 有用、诚实、无害\n\n- **有用**：完整清楚地完成所问。\n- **诚实**：说真话，不知道就说不知道。\n"
    "- **无害**：不引人受害；无谓的拒绝不是优点。\n\n当更安全的回答不是你更喜欢的那个时，会请你说明依据哪条规则。\n",
}

PRESETS = (
    Preset(
        key="compare", name={"en": "Compare two", "zh": "两两比较"},
        about={"en": "Two answers side by side, one question, seven steps.", "zh": "两个回答并排，一个问题，七档。"},
        questions=(Question(key="better", kind="compare"),), labels={"better": _OVERALL}, guideline=_FAIR,
    ),
    Preset(
        key="helpful_harmless", name={"en": "Helpful, honest, harmless", "zh": "有用、诚实、无害"},
        about={
            "en": "Two answers on three scales and overall, with a rule where safety and helpfulness pull apart.",
            "zh": "两个回答，三个方面加总体；安全与有用冲突时记录依据的规则。",
        },
        questions=_HHH,
        labels={
            "helpful": {"en": "More helpful", "zh": "更有用"}, "honest": {"en": "More honest", "zh": "更诚实"},
            "harmless": {"en": "More harmless", "zh": "更无害"}, "overall": {"en": "Better overall", "zh": "总体更好"},
        },
        guideline=_SAFE, conflict=True,
    ),
    Preset(
        key="chat", name={"en": "Chat and compare", "zh": "对话比较"},
        about={
            "en": "People talk with models; of two answers at each turn the better one goes on.",
            "zh": "标注员与模型对话，每轮两个回答，更好的继续。",
        },
        questions=(Question(key="better", kind="compare"),), labels={"better": _OVERALL}, guideline=_TALK,
    ),
    Preset(
        key="rank", name={"en": "Rank several", "zh": "多个排序"},
        about={"en": "Answers in order of quality, with ties.", "zh": "按质量给回答排序，允许并列。"},
        questions=(Question(key="order", kind="rank"),),
        labels={"order": {"en": "Best first", "zh": "最好的在前"}}, guideline=_FAIR,
    ),
    Preset(
        key="summary", name={"en": "Score summaries", "zh": "摘要打分"},
        about={"en": "Fluency, accuracy and completeness, 1 to 5 each.", "zh": "流畅、准确、完整，各 1 到 5 分。"},
        questions=_scales("fluency", "accuracy", "completeness"),
        labels={
            "fluency": {"en": "Fluency", "zh": "流畅"}, "accuracy": {"en": "Accuracy", "zh": "准确"},
            "completeness": {"en": "Completeness", "zh": "完整"},
        },
        guideline=_FAIR,
    ),
    Preset(
        key="dialogue", name={"en": "Score dialogue", "zh": "对话打分"},
        about={"en": "Naturalness, logic and information, 1 to 5 each.", "zh": "自然、逻辑、信息量，各 1 到 5 分。"},
        questions=_scales("naturalness", "logic", "information"),
        labels={
            "naturalness": {"en": "Naturalness", "zh": "自然"}, "logic": {"en": "Logic", "zh": "逻辑"},
            "information": {"en": "Information", "zh": "信息量"},
        },
        guideline=_FAIR,
    ),
    Preset(
        key="good_bad", name={"en": "Good or bad", "zh": "好或坏"},
        about={"en": "One key for each answer.", "zh": "每个回答按一个键。"},
        questions=(Question(key="good", kind="binary", per_response=True),),
        labels={"good": {"en": "Is this a good answer?", "zh": "这个回答好吗？"}}, guideline=_FAIR,
    ),
    Preset(
        key="write", name={"en": "Write or correct", "zh": "撰写或修改"},
        about={"en": "The ideal answer, from nothing or from what is there.", "zh": "写出理想的回答，可以修改已有的。"},
        questions=(Question(key="ideal", kind="text"),),
        labels={"ideal": {"en": "The ideal answer", "zh": "理想的回答"}}, guideline=_FAIR,
    ),
)  # fmt: skip
