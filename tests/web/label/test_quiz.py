"""The guideline and the quiz, before anybody judges."""

import json

from house import House, Visitor, task_of

QUIZ = [
    {"prompt": f"quiz {n}", "responses": ["good", "bad"], "gold": {"better": 1}, "explanation": f"**because** {n}"}
    for n in range(5)
]


def beginner(house: House, **changes) -> tuple[str, Visitor, Visitor]:
    owner = house.person("owner")
    project = house.project(owner, **changes)
    house.fill(owner, project, 3)
    manager = house.visitor(owner)
    content = "".join(json.dumps(row) + "\n" for row in QUIZ).encode()
    answer = manager.file(f"/p/{project}/quiz/file", "quiz.jsonl", content)
    assert (answer.status_code, answer.json()) == (201, {"items": 5})
    visitor = house.visitor(house.member(owner, project, "new"))
    return project, visitor, manager


def read(visitor: Visitor, project: str) -> None:
    visitor.get(f"/p/{project}/guideline")
    assert visitor.form(f"/p/{project}/guideline", version="1").headers["location"] == f"/p/{project}"


def attempt(visitor: Visitor, project: str, said: list[int]) -> list[dict]:
    found = []
    for place, choice in enumerate(said):
        answer = visitor.post(f"/p/{project}/quiz", {"place": place, "said": {"better": choice}})
        assert answer.status_code == 201, answer.text
        found.append(answer.json())
    return found


def test_first_the_guideline_then_the_quiz_then_the_work(house: House):
    project, visitor, _ = beginner(house)
    assert visitor.claim(project)["state"] == "not_qualified"
    assert visitor.get(f"/p/{project}").headers["location"].endswith("/guideline")
    read(visitor, project)
    assert visitor.get(f"/p/{project}").headers["location"].endswith("/quiz")
    task = task_of(visitor.get(f"/p/{project}/quiz"))
    assert (task["mode"], task["given"]["place"], task["given"]["messages"][0]["raw"]) == ("quiz", 0, "quiz 0")
    assert "because" not in json.dumps(task)
    assert "gold" not in json.dumps(task["given"])
    answers = attempt(visitor, project, [1, 1, 7, 1, 2])
    assert [answer["right"] for answer in answers] == [True, True, False, True, True]
    assert answers[2]["explanation"] == "<p><strong>because</strong> 2</p>\n"
    assert answers[2]["wanted"] == {"better": 1}
    assert answers[-1]["standing"]["passed"] is True
    assert "Passed" in visitor.get(f"/p/{project}/quiz").text
    assert visitor.claim(project)["state"] == "item"
    assert "member.qualify" in house.actions()


def test_there_are_two_attempts_and_the_owner_may_give_more(house: House):
    project, visitor, manager = beginner(house)
    read(visitor, project)
    attempt(visitor, project, [7] * 5)
    assert "second attempt" in visitor.get(f"/p/{project}/quiz").text
    attempt(visitor, project, [7] * 5)
    assert "0 / 5" in visitor.get(f"/p/{project}/quiz").text
    assert visitor.post(f"/p/{project}/quiz", {"place": 0, "said": {"better": 1}}).json()["code"] == "too_late"
    manager.get(f"/p/{project}/people")
    assert manager.form(f"/p/{project}/people/quiz", account=visitor.account).status_code == 303
    attempt(visitor, project, [1] * 5)
    assert visitor.claim(project)["state"] == "item"


def test_a_question_is_answered_once_and_in_turn(house: House):
    project, visitor, _ = beginner(house)
    attempt(visitor, project, [1])
    assert visitor.post(f"/p/{project}/quiz", {"place": 0, "said": {"better": 1}}).json()["code"] == "too_late"
    assert visitor.post(f"/p/{project}/quiz", {"place": 3, "said": {"better": 1}}).json()["code"] == "too_late"
    assert visitor.post(f"/p/{project}/quiz", {"place": 1, "said": {"better": 9}}).status_code == 422
    assert visitor.post(f"/p/{project}/quiz", {"place": 1, "said": []}).status_code == 422


def test_the_pass_mark_is_the_owners(house: House):
    project, visitor, _ = beginner(house, settings={"pass_share": 1.0})
    read(visitor, project)
    assert attempt(visitor, project, [1, 1, 1, 1, 7])[-1]["standing"]["passed"] is False


def test_without_a_quiz_reading_is_enough(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    house.fill(owner, project, 1)
    visitor = house.visitor(house.member(owner, project, "new"))
    read(visitor, project)
    assert visitor.claim(project)["state"] == "item"


def test_a_major_version_is_read_before_going_on_and_stamped(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    house.fill(owner, project, 3)
    visitor = house.visitor(house.member(owner, project, "new"))
    read(visitor, project)
    given = visitor.claim(project)
    manager = house.visitor(owner)
    manager.get(f"/p/{project}/editor")
    assert manager.form(f"/p/{project}/editor", text="Be **fairer**.", major="yes").status_code == 303
    after = visitor.answer(project, given, {"better": 1}).json()
    assert after["next"]["state"] == "guideline"
    page = visitor.get(f"/p/{project}/guideline")
    assert "<strong>fairer</strong>" in page.text
    assert "has changed" in page.text
    assert visitor.form(f"/p/{project}/guideline", version="2").status_code == 303
    assert visitor.answer(project, visitor.claim(project), {"better": 1}).status_code == 201
    assert house.rows("select guideline from judgment order by number") == [(1,), (2,)]
    assert "answers: 1" in manager.get(f"/p/{project}/editor").text
    assert visitor.get(f"/p/{project}/guideline?version=1").status_code == 200
    assert visitor.get(f"/p/{project}/guideline?version=9").status_code == 404
    assert visitor.form(f"/p/{project}/guideline", version="9").status_code == 404


def test_a_quiz_needs_known_answers(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    manager = house.visitor(owner)
    row = json.dumps({"prompt": "q", "responses": ["a", "b"]}).encode()
    answer = manager.file(f"/p/{project}/quiz/file", "quiz.jsonl", row)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert manager.file(f"/p/{project}/quiz/file", "quiz.jsonl", b"").status_code == 422
