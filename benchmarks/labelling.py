"""How fast the labelling site's database is, without the web: people who claim and submit without a pause.

    python benchmarks/labelling.py [--where FILE|postgresql://...] [--people 50] [--seconds 10] [--items 20000]

Every submission is validated, chained into the audit log and synced to the disk before it is counted. At the end the
whole log, every judgement and the counts are checked.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from tutelage.web import audit, judgments, schema
from tutelage.web.answers import Question
from tutelage.web.database import Database, Transaction
from tutelage.web.judgments import Judgments, Submission
from tutelage.web.projects import NewProject, Projects
from tutelage.web.queue import Lease, Queue

PIECE = 20_000
FEW = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--where", help="an empty PostgreSQL database; without it, an SQLite file in a temporary folder"
    )
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--need", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Database(args.where or Path(folder) / "label.db") as database:
        project, people = prepare(database, args.people, args.items, args.need)
        with Database(Path(folder) / "few.db") as few:
            alone(database, project, few, *prepare(few, 1, FEW, args.need), people[0], args.items)
        load(database, project, people, args.seconds)
        print("log:", database.read(audit.verify).fault or "holds", end="; ")
        print("judgements:", database.read(judgments.verify) or "hold", end="; ")
        over = sa.text("select count(*) from item where done > need")
        print("items judged by too many:", database.read(lambda c: c.scalar(over)))


def prepare(database: Database, people: int, items: int, need: int) -> tuple[str, list[str]]:
    """A project with items enough; they share a prompt, which the queue does not look at."""
    names = [f"person {number}" for number in range(people + 1)]

    def settle(t: Transaction) -> None:
        rows = [
            {"id": name, "name": name, "status": "active", "owner": True, "locale": "en", "created": t.at}
            for name in names
        ]
        t.connection.execute(sa.insert(schema.account), rows)
        t.connection.execute(
            sa.insert(schema.prompt),
            {"number": 1, "messages": "[]", "language": "en", "source": "", "split": "train", "sha256": "x"},
        )
        t.connection.execute(
            sa.insert(schema.response),
            [{"number": n, "prompt": 1, "text": "x", "sampling": "{}", "sha256": str(n)} for n in (1, 2)],
        )

    database.write(settle)
    questions = (Question(key="better", kind="compare"), Question(key="safer", kind="compare", dimension="safe"))
    new = NewProject(name="p", kind="compare", questions=questions, guideline="Be fair.", gold_share=0)
    project = Projects(database).make(names[0], new)
    began = time.perf_counter()
    for start in range(0, items, PIECE):

        def fill(t: Transaction, start: int = start) -> None:
            numbers = range(start + 1, min(start + PIECE, items) + 1)
            t.connection.execute(
                sa.insert(schema.item),
                [
                    {
                        "number": n, "id": f"item{n:022}", "project": project, "prompt": 1, "lane": schema.ORDINARY,
                        "position": n, "need": need, "sampled": "all",
                    }
                    for n in numbers
                ],
            )  # fmt: skip
            t.connection.execute(
                sa.insert(schema.item_response),
                [{"item": n, "slot": slot, "response": slot + 1} for n in numbers for slot in (0, 1)],
            )
            t.connection.execute(sa.update(schema.project).values(tail=numbers[-1]))

        database.write(fill)

    def join(t: Transaction) -> None:
        member = {"project": project, "role": "annotator", "state": "active", "guideline_read": 1}
        t.connection.execute(sa.insert(schema.membership), [{**member, "account": name} for name in names[1:]])

    database.write(join)
    if database.path is None:
        database.write(lambda t: t.connection.exec_driver_sql("analyze"))
    print(f"{items} items in {time.perf_counter() - began:.1f} s")
    return project, names[1:]


def alone(many: Database, project: str, few: Database, other: str, others: list[str], person: str, items: int) -> None:
    """One person alone, by turns where there are many items and where there are few: what a claim costs the writer."""
    times: tuple[list[float], list[float]] = ([], [])
    whole: tuple[list[float], list[float]] = ([], [])
    for turn in range(2 * 450):
        database, where, who = ((many, project, person), (few, other, others[0]))[turn % 2]
        queue, said = Queue(database), Judgments(database)

        def claim(
            t: Transaction, queue: Queue = queue, where: str = where, who: str = who
        ) -> tuple[Lease | None, float]:
            began = time.thread_time()
            lease = queue.claiming(t, who, where)
            return lease, time.thread_time() - began

        began = time.perf_counter()
        lease, spent = database.write(claim)
        whole[turn % 2].append(time.perf_counter() - began)
        times[turn % 2].append(spent)
        assert lease
        said.submit(who, submission(lease))
    for name, spent, waited in zip((items, FEW), times, whole, strict=True):
        print(f"claim of {name} items, alone: CPU {ms(spent)}; until it is on the disk {ms(waited)}")


def load(database: Database, project: str, people: list[str], seconds: float) -> None:
    """All people at once, in a closed loop."""
    queue, said = Queue(database), Judgments(database)
    claimed: list[float] = []
    submitted: list[float] = []
    errors: list[BaseException] = []
    commits: list[int] = []
    sa.event.listen(database._writer, "commit", lambda _: commits.append(1))
    cpu, began = time.process_time(), time.perf_counter()
    stop = began + seconds

    def work(person: str) -> None:
        try:
            while (start := time.perf_counter()) < stop:
                lease = queue.claim(person, project)
                middle = time.perf_counter()
                if lease is None:
                    return
                said.submit(person, submission(lease))
                claimed.append(middle - start)
                submitted.append(time.perf_counter() - middle)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=[person]) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(submitted)
    print(
        f"{len(people)} people: {count / spent:.0f} submissions/s, each after a claim; {len(errors)} errors; "
        f"{1000 * cpu / count:.2f} ms of CPU each, {2 * count / len(commits):.1f} writes a commit\n"
        f"  claim {ms(claimed)}; submit {ms(submitted)}"
    )


def submission(lease: Lease) -> Submission:
    said = {"better": 1 + secrets.randbelow(7), "safer": 4}
    return Submission(item=lease.item, token=lease.token, idem=secrets.token_hex(12), said=said)


def ms(times: list[float]) -> str:
    times = sorted(times)
    return f"p50 {1000 * times[len(times) // 2]:.2f} ms, p95 {1000 * times[int(len(times) * 0.95)]:.2f} ms"


if __name__ == "__main__":
    main()
