"""How fast an API may be asked, and how long to wait when it says no."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class TokenBucket:
    """At most ``per_second`` calls a second on average; what was not used is saved up to ``burst`` calls.

    :param per_second: 0 sets no limit.
    """

    def __init__(
        self,
        per_second: float,
        *,
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate, self._burst, self._clock, self._sleep = per_second, float(max(burst, 1)), clock, sleep
        self._tokens, self._at = self._burst, clock()

    def take(self) -> float:
        """Wait until a call is allowed; returns the seconds waited."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        wait = max(0.0, (1.0 - self._tokens) / self._rate)
        if wait:
            self._sleep(wait)
        # the debt that the wait has paid is counted when the clock is next read
        self._tokens -= 1.0
        return wait


def retry_after_seconds(header: str | None, *, now: datetime | None = None) -> float | None:
    """What a ``Retry-After`` header asks for: seconds, or the time until its HTTP date, not below 0 (RFC 9110, 10.2.3).

    None where there is no header, or one that cannot be read.
    """
    text = (header or "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def retry_wait_seconds(
    failures: int, asked: float | None, *, floor_seconds: float = 0.5, longest_seconds: float = 30.0
) -> float:
    """Seconds before the next attempt.

    What the server asks for is done, with up to a tenth more, so that clients who were refused together do not come back
    together. When it asks for nothing, or for 0, the waits double from the floor with jitter: an API that answers 0 to every
    refusal must not be asked in a busy loop.

    :param failures: attempts that failed so far, from 1. :param asked: what ``Retry-After`` says, None when it is absent.
    """
    if asked:
        return max(asked, floor_seconds) * random.uniform(1.0, 1.1)
    ceiling = min(longest_seconds, floor_seconds * 2.0 ** min(failures, 30))
    return float(random.uniform(max(floor_seconds, ceiling / 2), ceiling))
