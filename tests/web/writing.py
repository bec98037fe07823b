"""A process that judges without a pause and tells each answer once it is acknowledged; it is there to be killed.

python writing.py WHERE PROJECT PEOPLE TAG
"""

import contextlib
import itertools
import os
import sys
import threading

from tutelage.web.database import Database
from tutelage.web.judgments import Judgments, Submission
from tutelage.web.queue import Queue
from tutelage.web.refusal import Refusal


def main() -> None:
    where, project, people, tag = sys.argv[1:]
    database = Database(where)
    queue, judgments = Queue(database), Judgments(database)

    def work(account: str) -> None:
        for count in itertools.count():
            lease = queue.claim(account, project)
            if lease is None:
                return
            idem = f"{tag} {account} {count}"
            new = Submission(item=lease.item, token=lease.token, idem=idem, said={"better": 1 + count % 7})
            judgments.submit(account, new)
            os.write(1, f"{account}\t{idem}\n".encode())
            if count % 5 == 4:
                # Two others may have been quicker than a thread that had to wait; then it is told so.
                with contextlib.suppress(Refusal):
                    judgments.undo(account, project, f"{idem} undo")

    threads = [threading.Thread(target=work, args=[account], daemon=True) for account in people.split(",")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
