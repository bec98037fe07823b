"""What the labelling site says no to, in words for the person and a code for the page."""

from __future__ import annotations

from typing import Literal

from tutelage.errors import TutelageError

Code = Literal[
    "unknown", "not_allowed", "sign_in", "slow_down", "bad_link", "weak_password", "bad_input", "paused",
    "not_qualified", "guideline", "daily_cap", "lease_lost", "key_reused", "too_late", "full", "closed",
    "stale_draft", "last_owner", "stale_page", "other_origin", "too_large", "wrong_type", "no_answer",
]  # fmt: skip

_STATUS: dict[Code, int] = {
    "unknown": 404, "not_allowed": 403, "sign_in": 401, "slow_down": 429, "bad_link": 410, "weak_password": 422,
    "bad_input": 422, "paused": 403, "not_qualified": 403, "guideline": 403, "daily_cap": 429, "stale_page": 403,
    "other_origin": 403, "too_large": 413, "wrong_type": 415,
}  # fmt: skip
"""HTTP's own number for a code; 409 where the request was right and came at the wrong time."""


class Refusal(TutelageError):
    """Something that the rules do not allow. Nothing of the request has been kept."""

    def __init__(self, code: Code, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code: Code = code
        self.status = _STATUS.get(code, 409)
        self.retry_after = retry_after
        """Seconds after which it may be tried again, where that is known."""


class DatabaseError(TutelageError):
    """The database cannot be used now. What was asked has not been kept, unless it was the reply that got lost."""
