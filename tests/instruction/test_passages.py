import random

from tutelage.instruction import passages
from tutelage.instruction.exercises import Exercise
from tutelage.instruction.passages import LONGEST_CHINESE, cut, of_text
from tutelage.records import Document
from tutelage.sentences import join, sentences

ENGLISH = """# The well

The village had one deep well. Every morning the children carried water to their houses. Nobody was ever late.

One day the rope was broken in the night. An old woman made a new one from the bark of a tree.

```python
x = "code is no prose. not at all."
```

| a | table |
| is | none |

Since then the well has had two ropes. The children call the second one grandmother.
"""

CHINESE = """水井

村子里只有一口很深的水井。每天早上孩子们都去打水。从来没有人迟到。
有一天夜里绳子断了。一位老奶奶用树皮做了一根新的绳子。
从此以后水井有了两根绳子。孩子们把第二根叫做奶奶。
"""


def document(text: str, language: str, **metadata: str) -> Document:
    return Document(id="d", text=text, source="file", licence="unknown", language=language, metadata=metadata)


def made(doc: Document, seeds: int = 20) -> dict[str, list[Exercise]]:
    found: dict[str, list[Exercise]] = {}
    for seed in range(seeds):
        for exercise in of_text(doc, passages.TASKS, random.Random(seed), 9):
            found.setdefault(exercise.task, []).append(exercise)
    return found


def test_any_folder_of_files_gives_three_reading_tasks_in_either_language() -> None:
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        found = made(document(text, language))
        assert set(found) == {"shorten", "quote", "follows"}
        for exercise in (e for several in found.values() for e in several):
            assert exercise.language == language
            assert exercise.reference in join(exercise.slots["text"]), "answers are verbatim"
            assert len(sentences(exercise.reference)) == 1


def test_a_quoted_word_stands_in_one_sentence_only() -> None:
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        for exercise in made(document(text, language))["quote"]:
            word = exercise.slots["word"].lower()
            holders = [s for s in sentences(exercise.slots["text"]) if word in s.lower()]
            assert holders == [exercise.reference]


def test_follows_gives_the_next_sentence() -> None:
    for text, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        for exercise in made(document(text, language))["follows"]:
            found = sentences(exercise.slots["text"])
            assert found[found.index(exercise.slots["sentence"]) + 1] == exercise.reference


def test_a_title_is_asked_only_where_it_can_be_read() -> None:
    assert made(document(ENGLISH, "en", title="The well"))["title"][0].reference == 'The title is "The well".'
    assert made(document(CHINESE, "zh", title="水井"))["title"][0].reference == "标题是《水井》。"
    assert "title" not in made(document(ENGLISH, "en", title="The bucket"))
    assert "title" not in made(document(ENGLISH, "en"))


def test_passages_are_short_and_without_code() -> None:
    found = cut(ENGLISH.replace("```python\n", "").replace("```\n", ""), 200)
    assert all(len(passage) <= 200 for passage in found)
    assert "table" not in "".join(found)
    long = "一句话不算太长，但是也不短。" * 100
    assert all(LONGEST_CHINESE * 0.8 < len(passage) <= LONGEST_CHINESE for passage in cut(long, LONGEST_CHINESE)[:-1])


def test_the_language_is_looked_at_where_nobody_knows_it() -> None:
    assert passages.language(document(CHINESE, "und")) == "zh"
    assert passages.language(document(ENGLISH, "und")) == "en"
