"""Every page once, on either kind of database."""

from pathlib import Path

from house import served
from test_owning import NEW, judged, rows


def test_all_pages_on_either_database(where: Path | str):
    with served(where) as house:
        owner = house.owner("owner")
        project = owner.post("/projects", {**NEW, "per_answer": 0.1, "daily_cap": 40}).json()["project"]
        base = f"/p/{project}"
        assert owner.file(f"{base}/items", "x.jsonl", rows(4)).json() == {"items": 4}
        known = rows(3, gold={"better": 1}, explanation="because")
        assert owner.file(f"{base}/quiz/file", "quiz.jsonl", known).json() == {"items": 3}
        owner.get(f"{base}/board")
        assert owner.form(f"{base}/state", state="open").status_code == 303
        visitor = house.visitor(house.member(owner.session, project, "new"))
        visitor.get(f"{base}/guideline")
        visitor.form(f"{base}/guideline", version="1")
        for place in range(3):
            marked = visitor.post(f"{base}/quiz", {"place": place, "said": {"better": 2}})
            assert marked.json()["right"] is True
        given = visitor.claim(project)
        draft = {"item": given["item"], "token": given["token"], "body": '{"said":{}}', "rev": 0}
        assert visitor.post("/seats/draft", draft).json() == {"rev": 1}
        assert visitor.answer(project, visitor.claim(project), {"better": 3}, note="ü 好").status_code == 201
        undone = visitor.post("/seats/undo", {"project": project, "idem": "undo this"}).json()
        assert visitor.answer(project, undone, {"better": {"cannot_tell": "needs_expertise"}}).status_code == 201
        assert visitor.post("/seats/flag", {"item": given["item"], "reason": "broken"}).status_code == 201
        accounts = judged(house, project)
        pages = ["task", "history", "guideline", f"history/{given['item']}"]
        for path in ("/", "/account", "/account/data", *(f"{base}/{name}" for name in pages)):
            assert visitor.get(path).status_code == 200, path
        shows = [f"items?show={which}" for which in ("disputed", "flagged", "open", "closed", "gold", "all")]
        names = ["board", "people", "editor", "data", "log", "preview", "projects", f"items/{given['item']}", *shows]
        for name in names:
            path = "/projects/new" if name == "projects" else f"{base}/{name}"
            assert owner.get(path).status_code == 200, path
        assert owner.get(f"{base}/people/{accounts[0]}").status_code in (200, 404)
        assert "What would change" in owner.form(f"{base}/people/what-if", account=accounts[0]).text
        assert owner.form(f"{base}/people/set-aside", account=accounts[0], reason="x").status_code == 303
        decided = owner.post(f"{base}/items/{given['item']}", {"kind": "decide", "said": {"better": 1}})
        assert decided.status_code == 201
        owner.get(f"{base}/data")
        assert owner.form(f"{base}/data", name="one").status_code == 303
        owner.get(f"{base}/log")
        assert "The log holds" in owner.form(f"{base}/log/verify").text
        house.sound()
