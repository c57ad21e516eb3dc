"""Requests to one API: its key, its pace, and what a failed answer means."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from tallyclerk.exceptions import ServiceUnavailableError, SpecError, TransientError
from tallyclerk.sources.rest_limits import TokenBucket, retry_after_seconds, retry_wait_seconds

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

log = logging.getLogger(__name__)
Parsed = TypeVar("Parsed")

SERVICE = "The API"
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529})
_REMEDIES = {
    400: "Compare the endpoint's parameters with the contract's `rest` property.",
    401: "Correct the connection's password: it is the bearer key.",
    403: "The key is known but may not read this endpoint; ask the API's owner.",
    404: "Correct the endpoint, or the connection's host.",
    422: "Compare the endpoint's parameters with the contract's `rest` property.",
}


class DamagedAnswerError(TransientError):
    """An answer that ends early or is no JSON; it is asked for again."""


class _RefusedForNowError(TransientError):
    """An answer that says: later.

    :param asked_seconds: what its ``Retry-After`` says.
    """

    def __init__(self, cause: str, asked_seconds: float | None = None) -> None:
        self.asked_seconds = asked_seconds
        super().__init__(cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How long one request is tried: until either is used up.

    :param attempts: of one request. :param seconds: from its first attempt, waits included.
    :param timeout_seconds: of one attempt, without a byte.
    """

    attempts: int = 8
    seconds: float = 120.0
    floor_seconds: float = 0.5
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """:param url: what was asked, the parameters included. :param next_link: address of the ``Link`` header's next page."""

    url: str
    body: bytes
    next_link: str | None = None


@dataclass(slots=True, kw_only=True)
class RestClient:
    """One API behind a bearer key. Use it as a context manager; not for several threads.

    Only GET is sent, so that asking again is safe. Redirects are not followed and links to another host are refused: the
    key would go with them.

    :param base_url: what stands before every endpoint's path.
    :param key: the bearer key, "" for none. It is in no message.
    :param headers: more headers.
    :param requests_per_second: pace, retries included; 0 for none.
    """

    base_url: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    requests_per_second: float = 0.0
    budget: RetryBudget = field(default_factory=RetryBudget)
    verify: bool | str = True
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    requests: int = 0
    """Sent so far, failed ones included."""
    _client: httpx.Client | None = field(default=None, init=False, repr=False)
    _bucket: TokenBucket = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._bucket = TokenBucket(self.requests_per_second, sleep=self.sleep)

    def __enter__(self) -> RestClient:
        import httpx

        headers = {"Accept": "application/json", **self.headers}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        self._client = httpx.Client(headers=headers, timeout=self.budget.timeout_seconds, verify=self.verify)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No request is sent after this; may be called twice."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def address(self, path: str) -> str:
        """A path below the base, or a link of the API's own, as a whole URL.

        :raises SpecError: the link leads to another host.
        """
        url = path if "://" in path else f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"
        base, asked = urlsplit(self.base_url), urlsplit(url)
        if (asked.scheme, asked.netloc) != (base.scheme, base.netloc):
            raise SpecError(
                f"The API at {self.base_url} links to {asked.scheme}://{asked.netloc}, another host, to which the key must "
                "not go. If it is right, make a connection for that host."
            )
        return url

    def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Parsed]) -> Parsed:
        """Ask until there is an answer that ``parse`` can read.

        :param parse: raises :class:`DamagedAnswerError` for an answer to ask for again.
        :raises SpecError: the API refuses the request (key, endpoint, parameters).
        :raises ServiceUnavailableError: no usable answer within the budget, or it asks for a longer wait than is left.
        """
        import tenacity

        url = self.address(path)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((_RefusedForNowError, DamagedAnswerError)),
            wait=self._wait,
            stop=self._is_over,
            before_sleep=partial(_tell, url),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(self._ask, url, params, parse)
        except (_RefusedForNowError, DamagedAnswerError) as error:
            raise ServiceUnavailableError(service=SERVICE, address=url, cause=error) from error

    def _ask(self, url: str, params: Mapping[str, str | int], parse: Callable[[Answer], Parsed]) -> Parsed:
        import httpx

        if self._client is None:
            raise ServiceUnavailableError(service=SERVICE, address=url, cause="the client was closed")
        self._bucket.take()
        self.requests += 1
        try:
            answer = self._client.get(url, params=params or None)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _RefusedForNowError(f"{type(error).__name__}: {error}") from error
        if answer.status_code in _AGAIN:
            asked = retry_after_seconds(answer.headers.get("Retry-After"))
            raise _RefusedForNowError(f"HTTP {answer.status_code} {answer.reason_phrase}", asked)
        if answer.status_code != 200:
            remedy = _REMEDIES.get(answer.status_code, "See the API's documentation for this status.")
            raise SpecError(f"{answer.url} answers HTTP {answer.status_code} {answer.reason_phrase}. {remedy}")
        link = answer.links.get("next", {}).get("url")
        return parse(Answer(str(answer.url), answer.content, link and urljoin(str(answer.url), link)))

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "asked_seconds", None)
        return retry_wait_seconds(state.attempt_number, asked, floor_seconds=self.budget.floor_seconds)

    def _is_over(self, state: RetryCallState) -> bool:
        # a wait that does not fit is not begun: the task gives its place to others, and Airflow's retry comes later
        left = self.budget.seconds - (state.seconds_since_start or 0.0)
        return state.attempt_number >= self.budget.attempts or state.upcoming_sleep > left


def _tell(url: str, state: Any) -> None:
    error = state.outcome.exception()
    log.warning("%s: %s; attempt %d, again in %.1f s", url, error, state.attempt_number + 1, state.upcoming_sleep)
