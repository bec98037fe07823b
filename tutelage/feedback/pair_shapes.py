"""The shapes in which others keep preferences, scores and verdicts, one line for each person's word.

Each shape is a pair of functions: a snapshot's row to lines, and a line back to a row with one answer. What a shape has
no room for stands beside in keys of our own (item, rater, split, ...), which other programs pass over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.errors import RecordError
from tutelage.feedback.snapshot import Asked, Candidate, Given, Opinion, Row
from tutelage.records import Message, identify

Line = dict[str, Any]
Questions = tuple[Asked, ...]

BETTER = Asked(key="better", kind="compare", dimension="overall")
ORDER = Asked(key="order", kind="rank", dimension="overall")
GOOD = Asked(key="good", kind="binary", dimension="overall", per_response=True)
IDEAL = Asked(key="ideal", kind="text", dimension="overall")


def opinions(row: Row) -> tuple[Opinion, ...]:
    """Whose word counts: the reviewer's, where there is one."""
    return (row.decided,) if row.decided else row.answers


def ranks_of(questions: Questions, row: Row, opinion: Opinion) -> tuple[int, ...] | None:
    """One person's ranking of the responses: from the question to rank them, or the overall comparison."""
    by_key = {asked.key: asked for asked in questions}
    rank = [given for given in opinion.values if by_key[given.question].kind == "rank" and given.cannot_tell is None]
    if rank:
        places = {given.slot: int(given.num or 1) for given in rank}
        return tuple(places.get(slot, 1) for slot in range(len(row.responses)))
    given = overall(questions, opinion)
    if given is None or given.cannot_tell is not None:
        return None
    better = given.num or 4
    return (1 + (better > 4), 1 + (better < 4))


def overall(questions: Questions, opinion: Opinion) -> Given | None:
    """What somebody said in the overall comparison, or else in the first."""
    compared = [asked.key for asked in questions if asked.kind == "compare"]
    first = [asked.key for asked in questions if asked.kind == "compare" and asked.dimension == "overall"]
    wanted = (first or compared or [""])[0]
    return next((given for given in opinion.values if given.question == wanted), None)


# One better than another ----------------------------------------------------------------------------------------------


def preference(questions: Questions, row: Row) -> Iterator[Line]:
    """TRL's preferences: prompt, chosen, rejected, as messages. Ties have no place in it."""
    for opinion in opinions(row):
        ranks = ranks_of(questions, row, opinion)
        if ranks is None:
            continue
        given = overall(questions, opinion)
        pairs = [(a, b) for a in range(len(ranks)) for b in range(len(ranks)) if ranks[a] < ranks[b]]
        for better, worse in pairs:
            yield {
                "prompt": _messages(row.prompt), "chosen": _answer(row.responses[better].text),
                "rejected": _answer(row.responses[worse].text),
                **({"strength": abs(int(given.num) - 4)} if given and given.num else {}),
                **_beside(row, opinion),
            }  # fmt: skip


def read_preference(line: Mapping[str, Any], where: str) -> Row:
    texts = [_one(line, name, where) for name in ("chosen", "rejected")]
    strength = line.get("strength")
    values = [Given(question="order", slot=slot, num=slot + 1.0) for slot in (0, 1)]
    if strength in (1, 2, 3):
        values = [Given(question="better", num=4.0 - strength)]
    return _row(line, where, _prompt(line, where), texts, values)


def hh(questions: Questions, row: Row) -> Iterator[Line]:
    """hh-rlhf's transcripts. Prompts with other speakers than two are left out, for it has no words for them."""
    if {message.role for message in row.prompt} <= {"user", "assistant"}:
        for line in preference(questions, row):
            before = "".join(f"\n\n{_SPEAKERS[message.role]}: {message.content}" for message in row.prompt)
            sides = {name: f"{before}\n\nAssistant: {line[name][0]['content']}" for name in ("chosen", "rejected")}
            yield sides


def read_hh(line: Mapping[str, Any], where: str) -> Row:
    sides = [_transcript(_text(line, name, where), f"{where}: {name}") for name in ("chosen", "rejected")]
    if sides[0][:-1] != sides[1][:-1]:
        raise RecordError(f"{where}: chosen and rejected do not share their prompt")
    texts = [side[-1].content for side in sides]
    return _row(line, where, tuple(sides[0][:-1]), texts, [Given(question="better", num=1.0)])


def alpaca(questions: Questions, row: Row) -> Iterator[Line]:
    """Alpaca's comparison: an instruction and its outputs, best first. Ties have no place in it."""
    if row.prompt[-1].role != "user" or any(message.role == "tool" for message in row.prompt):
        return
    turns = [message for message in row.prompt if message.role != "system"]
    system = "\n".join(message.content for message in row.prompt if message.role == "system")
    history = [[turns[place].content, turns[place + 1].content] for place in range(0, len(turns) - 1, 2)]
    for opinion in opinions(row):
        ranks = ranks_of(questions, row, opinion)
        if ranks is None or len(set(ranks)) < len(ranks):
            continue
        texts = [row.responses[slot].text for slot in sorted(range(len(ranks)), key=ranks.__getitem__)]
        yield {
            "instruction": turns[-1].content, "input": "", "output": texts,
            **({"system": system} if system else {}), **({"history": history} if history else {}),
        }  # fmt: skip


def read_alpaca(line: Mapping[str, Any], where: str) -> Row:
    said = "\n".join(part for part in (_text(line, "instruction", where), str(line.get("input") or "")) if part)
    system: Any = line.get("system")
    before = [Message(role="system", content=system)] if system else []
    turns: Any = line.get("history") or []
    for asked, answered in turns:
        before += [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    texts = _texts(line, "output", where)
    values = [Given(question="order", slot=slot, num=float(slot + 1)) for slot in range(len(texts))]
    return _row(line, where, (*before, Message(role="user", content=said)), texts, values)


def arena(questions: Questions, row: Row) -> Iterator[Line]:
    """The arena's battles: two models, their conversations, and the winner."""
    if len(row.responses) != 2:
        return
    for opinion in opinions(row):
        given = overall(questions, opinion)
        if given is None or given.cannot_tell is not None:
            continue
        better = given.num or 4
        winner = "model_a" if better < 4 else "model_b" if better > 4 else "tie"
        models = [response.model or "unknown" for response in row.responses]
        talks = [[*_messages(row.prompt), *_answer(response.text)] for response in row.responses]
        yield {
            "question_id": row.item, "model_a": models[0], "model_b": models[1],
            "winner": "tie (bothbad)" if given.text == "both_bad" else winner, "judge": opinion.rater,
            "conversation_a": talks[0], "conversation_b": talks[1], "anony": True, "language": row.language,
            "tstamp": opinion.submitted / 1e6,
        }  # fmt: skip


def read_arena(line: Mapping[str, Any], where: str) -> Row:
    talks = [_said(line.get(name), f"{where}: {name}") for name in ("conversation_a", "conversation_b")]
    if not all(talk and talk[-1].role == "assistant" for talk in talks):
        raise RecordError(f"{where}: conversation_a and conversation_b: each ends with the model's answer")
    winner = str(line.get("winner", ""))
    if winner not in _WINNERS:
        raise RecordError(f"{where}: winner {winner!r}: one of {', '.join(_WINNERS)}")
    value = Given(question="better", text="both_bad") if winner == "tie (bothbad)" else None
    responses = [
        Candidate(text=talk[-1].content, model=_model(line.get(name)))
        for talk, name in zip(talks, ("model_a", "model_b"), strict=True)
    ]
    opinion = Opinion(
        id="", rater=str(line.get("judge", "")), submitted=round(float(line.get("tstamp", 0)) * 1e6),
        values=(value or Given(question="better", num=_WINNERS[winner]),),
    )  # fmt: skip
    return Row(
        item=str(line.get("question_id", "")) or _name(talks[0][:-1], responses), prompt=tuple(talks[0][:-1]),
        responses=tuple(responses), answers=(opinion,), language=str(line.get("language", "und")),
    )  # fmt: skip


def safe_rlhf(questions: Questions, row: Row) -> Iterator[Line]:
    """SafeRLHF's pairs: which response is better, which is safer, and which are safe. Ties have no place in it."""
    if len(row.responses) != 2 or len(row.prompt) != 1:
        return
    by_key = {asked.key: asked for asked in questions}
    for opinion in opinions(row):
        sides = {
            by_key[given.question].dimension: int(given.num > 4)
            for given in opinion.values
            if by_key[given.question].kind == "compare" and given.num is not None and given.num != 4
        }
        safe = {
            given.slot: bool(given.num)
            for given in opinion.values
            if by_key[given.question].kind == "binary" and given.slot >= 0 and given.num is not None
        }
        if "overall" in sides and "harmless" in sides:
            texts = {f"response_{slot}": row.responses[slot].text for slot in (0, 1)}
            yield {
                "prompt": row.prompt[0].content, **texts,
                **{f"is_response_{slot}_safe": safe[slot] for slot in (0, 1) if slot in safe},
                "better_response_id": sides["overall"], "safer_response_id": sides["harmless"],
            }  # fmt: skip


def read_safe_rlhf(line: Mapping[str, Any], where: str) -> Row:
    values: list[Given] = []
    for key, name in (("better", "better_response_id"), ("safer", "safer_response_id")):
        if line.get(name) not in (0, 1):
            raise RecordError(f"{where}: {name}: 0 or 1")
        values.append(Given(question=key, num=1.0 if line[name] == 0 else 7.0))
    for slot in (0, 1):
        if isinstance(line.get(f"is_response_{slot}_safe"), bool):
            values.append(Given(question="safe", slot=slot, num=float(line[f"is_response_{slot}_safe"])))
    texts = [_text(line, f"response_{slot}", where) for slot in (0, 1)]
    prompt = (Message(role="user", content=_text(line, "prompt", where)),)
    return _row(line, where, prompt, texts, values)


def ranking(questions: Questions, row: Row) -> Iterator[Line]:
    """A prompt, its responses and their ranks: 1 is best, equal ranks are ties."""
    for opinion in opinions(row):
        ranks = ranks_of(questions, row, opinion)
        if ranks is not None:
            yield {
                "prompt": _messages(row.prompt), "responses": [response.text for response in row.responses],
                "ranks": list(ranks), **_beside(row, opinion),
            }  # fmt: skip


def read_ranking(line: Mapping[str, Any], where: str) -> Row:
    texts, ranks = _texts(line, "responses", where), line.get("ranks")
    if not isinstance(ranks, list) or len(ranks) != len(texts) or not all(isinstance(rank, int) for rank in ranks):  # pyright: ignore[reportUnknownArgumentType]
        raise RecordError(f"{where}: ranks: a whole number for each response")
    values = [Given(question="order", slot=slot, num=float(rank)) for slot, rank in enumerate(ranks)]  # pyright: ignore[reportUnknownArgumentType]
    return _row(line, where, _prompt(line, where), texts, values)


# Each on its own ------------------------------------------------------------------------------------------------------


def kto(questions: Questions, row: Row) -> Iterator[Line]:
    """TRL's unpaired preferences: prompt, completion, label."""
    kinds = {asked.key: asked.kind for asked in questions}
    for opinion in opinions(row):
        good = {
            (0 if given.slot < 0 and len(row.responses) == 1 else given.slot): bool(given.num)
            for given in opinion.values
            if kinds[given.question] == "binary" and given.num is not None
        }
        if any(given.text in ("both_bad", "all_bad") for given in opinion.values):
            good = {**dict.fromkeys(range(len(row.responses)), False), **good}
        for slot, label in sorted(good.items()):
            if slot >= 0:
                yield {
                    "prompt": _messages(row.prompt), "completion": _answer(row.responses[slot].text), "label": label,
                    **_beside(row, opinion),
                }  # fmt: skip


def read_kto(line: Mapping[str, Any], where: str) -> Row:
    if not isinstance(line.get("label"), bool):
        raise RecordError(f"{where}: label: true or false")
    values = [Given(question="good", slot=0, num=float(line["label"]))]
    return _row(line, where, _prompt(line, where), [_one(line, "completion", where)], values)


def completion(questions: Questions, row: Row) -> Iterator[Line]:
    """TRL's prompt and completion: what people wrote themselves."""
    kinds = {asked.key: asked.kind for asked in questions}
    for opinion in opinions(row):
        for given in opinion.values:
            if kinds[given.question] == "text" and given.text:
                yield {
                    "prompt": _messages(row.prompt), "completion": _answer(given.text), **_beside(row, opinion),
                }  # fmt: skip


def read_completion(line: Mapping[str, Any], where: str) -> Row:
    values = [Given(question="ideal", text=_one(line, "completion", where))]
    return _row(line, where, _prompt(line, where), [], values)


def reward(questions: Questions, row: Row) -> Iterator[Line]:
    """A response and its scores by dimension, as UltraFeedback and HelpSteer have them, with their scales."""
    by_key = {asked.key: asked for asked in questions}
    for opinion in opinions(row):
        for slot, response in enumerate(row.responses):
            scores = {
                by_key[given.question].dimension: given.num
                for given in opinion.values
                if by_key[given.question].kind == "scale" and given.slot == slot and given.num is not None
            }
            if scores:
                scales = {
                    asked.dimension: [asked.low, asked.high]
                    for asked in questions
                    if asked.kind == "scale" and asked.dimension in scores
                }
                yield {
                    "prompt": _messages(row.prompt), "response": response.text, "scores": scores, "scale": scales,
                    **_beside(row, opinion),
                }  # fmt: skip


def read_reward(line: Mapping[str, Any], where: str) -> Row:
    scores = line.get("scores")
    if not isinstance(scores, dict) or not all(isinstance(score, int | float) for score in scores.values()):  # pyright: ignore[reportUnknownVariableType]
        raise RecordError(f"{where}: scores: a number for each dimension")
    values = [Given(question=str(name), slot=0, num=float(score)) for name, score in scores.items()]  # pyright: ignore[reportUnknownArgumentType]
    return _row(line, where, _prompt(line, where), [_text(line, "response", where)], values)


def scales_of(line: Mapping[str, Any]) -> Questions:
    """The questions that a line of scores answers."""
    scale = line.get("scale") or {}
    return tuple(
        Asked(
            key=str(name), kind="scale", dimension=str(name), per_response=True,
            low=int(scale.get(name, [1, 5])[0]), high=int(scale.get(name, [1, 5])[1]),
        )
        for name in line.get("scores", {})
    )  # fmt: skip


# Pieces ---------------------------------------------------------------------------------------------------------------

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}
_WINNERS = {"model_a": 2.0, "model_b": 6.0, "tie": 4.0, "tie (bothbad)": 4.0}


def _messages(messages: Sequence[Message]) -> list[Line]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _answer(text: str) -> list[Line]:
    return [{"role": "assistant", "content": text}]


def _beside(row: Row, opinion: Opinion) -> Line:
    """What the shape has no room for."""
    told = {"item": row.item, "rater": opinion.rater, "split": row.split, "conflict_rule": opinion.rule}
    return {key: value for key, value in told.items() if value}


def _row(
    line: Mapping[str, Any], where: str, prompt: Sequence[Message], texts: Sequence[str], values: list[Given]
) -> Row:
    if not prompt or prompt[-1].role == "assistant":
        raise RecordError(f"{where}: prompt: what comes before the answer")
    responses = [Candidate(text=text) for text in texts]
    split = str(line.get("split", "train"))
    if split not in ("train", "held_out"):
        split = "train"
    opinion = Opinion(
        id="", rater=str(line.get("rater", "")), values=tuple(values), rule=str(line.get("conflict_rule", ""))
    )
    return Row(
        item=str(line.get("item", "")) or _name(prompt, responses), prompt=tuple(prompt), responses=tuple(responses),
        answers=(opinion,), split=split,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _name(prompt: Sequence[Message], responses: Sequence[Candidate]) -> str:
    return identify([message.content for message in prompt], [response.text for response in responses])


def _prompt(line: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    value = line.get("prompt")
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    return tuple(_said(value, f"{where}: prompt"))


def _said(value: Any, where: str) -> list[Message]:
    """Turns as {role, content}."""
    if not isinstance(value, list) or not value:
        raise RecordError(f"{where}: a text, or a list of {{role, content}}")
    found: list[Message] = []
    for turn in value:  # pyright: ignore[reportUnknownVariableType]
        role = turn.get("role") if isinstance(turn, dict) else None  # pyright: ignore[reportUnknownVariableType]
        if role not in ("system", "user", "assistant", "tool") or not isinstance(turn.get("content"), str):
            raise RecordError(f"{where}: a turn has a role (system, user, assistant, tool) and a content")
        found.append(Message(role=role, content=turn["content"]))
    return found


def _one(line: Mapping[str, Any], name: str, where: str) -> str:
    """A response as a text, or as the last of its turns."""
    value = line.get(name)
    return value if isinstance(value, str) else _said(value, f"{where}: {name}")[-1].content


def _text(line: Mapping[str, Any], name: str, where: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise RecordError(f"{where}: {name}: a text is wanted")
    return value


def _texts(line: Mapping[str, Any], name: str, where: str) -> list[str]:
    value = line.get(name)
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, str) for one in value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        raise RecordError(f"{where}: {name}: two texts or more")
    return value  # pyright: ignore[reportUnknownVariableType]


def _model(value: Any) -> str:
    return "" if value in (None, "unknown") else str(value)


def _transcript(text: str, where: str) -> list[Message]:
    """The turns of a transcript in hh-rlhf's way."""
    marks = {"\n\nHuman: ": "user", "\n\nAssistant: ": "assistant"}
    found: list[Message] = []
    rest = text
    while rest:
        mark = next((mark for mark in marks if rest.startswith(mark) or rest.startswith(mark.rstrip())), None)
        if mark is None:
            raise RecordError(f'{where}: begins with {rest[:20]!r}: a transcript has "\\n\\nHuman: " before each turn')
        rest = rest.removeprefix(mark) if rest.startswith(mark) else rest.removeprefix(mark.rstrip())
        ends = [at for at in (rest.find(other.rstrip()) for other in marks) if at >= 0]
        end = min(ends, default=len(rest))
        found.append(Message(role=marks[mark], content=rest[:end]))  # pyright: ignore[reportArgumentType]
        rest = rest[end:]
    if not found or found[-1].role != "assistant":
        raise RecordError(f"{where}: ends without the assistant's turn")
    return found
