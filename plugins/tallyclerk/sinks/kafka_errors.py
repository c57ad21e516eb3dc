"""What librdkafka's errors mean: the one place that reads their codes.

A full queue is no error here: :mod:`~tallyclerk.sinks.kafka_delivery` waits for room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import ConcurrentLoadError, KafkaRefusedError, ServiceUnavailableError, TallyclerkError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

SERVICE = "Kafka"

_FENCED = ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")
_REMEDIES = {
    "MSG_SIZE_TOO_LARGE": "Raise the topic's max.message.bytes and the connection's message.max.bytes, or send less in one row.",
    "RECORD_LIST_TOO_LARGE": "Lower the connection's batch.size under the topic's segment.bytes.",
    "UNKNOWN_TOPIC_OR_PART": "Create the topic (declare it in include/kafka/topics.yaml and run `make up`).",
    "_UNKNOWN_TOPIC": "Create the topic (declare it in include/kafka/topics.yaml and run `make up`).",
    "_UNKNOWN_PARTITION": "The topic was made anew with other partitions; run the load again.",
    "TOPIC_EXCEPTION": "Correct the topic's name: letters, digits, dot, underscore and hyphen, at most 249.",
    "TOPIC_AUTHORIZATION_FAILED": "Grant the connection's login WRITE and DESCRIBE (to read: READ) on the topic.",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "Grant the connection's login WRITE on transactional ids that begin with 'tallyclerk.'.",
    "CLUSTER_AUTHORIZATION_FAILED": "Grant the connection's login IDEMPOTENT_WRITE (to make topics: CREATE) on the cluster.",
    "GROUP_AUTHORIZATION_FAILED": "Grant the connection's login READ on consumer groups that begin with 'tallyclerk.'.",
    "_AUTHENTICATION": "Correct login, password and mechanism of the connection.",
    "SASL_AUTHENTICATION_FAILED": "Correct login, password and mechanism of the connection.",
    "_SSL": "Correct the connection's certificates.",
    "INVALID_TRANSACTION_TIMEOUT": "Lower transaction.timeout.ms to the broker's transaction.max.timeout.ms.",
    "INVALID_RECORD": "The topic refuses these records; a compacted topic wants keys.",
    "POLICY_VIOLATION": "The broker's policy refuses it; ask who runs the cluster.",
    "_INVALID_ARG": "Correct the connection's settings.",
}
_AWAY = (
    "_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_MSG_TIMED_OUT", "_TIMED_OUT_QUEUE", "_RESOLVE", "_WAIT_COORD",
    "_PURGE_QUEUE", "_PURGE_INFLIGHT", "_DESTROY", "_MAX_POLL_EXCEEDED", "REQUEST_TIMED_OUT", "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "COORDINATOR_NOT_AVAILABLE",
    "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "BROKER_NOT_AVAILABLE", "NETWORK_EXCEPTION",
    "CONCURRENT_TRANSACTIONS", "KAFKA_STORAGE_ERROR", "TRANSACTION_COORDINATOR_FENCED", "THROTTLING_QUOTA_EXCEEDED",
    "INVALID_TXN_STATE", "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "INVALID_PRODUCER_ID_MAPPING",
)  # fmt: skip


def classify(error: BaseException | KafkaError, *, address: str, what: str, load: str = "") -> TallyclerkError:
    """The provider's error for the client's.

    Taken over by another attempt: :class:`ConcurrentLoadError`. Away or too slow: :class:`ServiceUnavailableError`.
    Refused: :class:`KafkaRefusedError`. Ours stay what they are; one that is not the client's is raised as it is.

    :param what: what was tried, for the message, as in ``a message to the topic 'sales'``.
    """
    from confluent_kafka import KafkaError, KafkaException

    if isinstance(error, TallyclerkError):
        return error
    found: Any = error.args[0] if isinstance(error, KafkaException) and error.args else error
    if not isinstance(found, KafkaError):
        if isinstance(error, BaseException):
            raise error
        raise TypeError(f"not an error of the Kafka client: {error!r}")
    name, said = _names().get(found.code(), str(found.code())), f"{found.name()}: {found.str()}"
    if name in _FENCED:
        return ConcurrentLoadError(load=load or what, cause=f"it took the transactional id over: {said}")
    if name in _REMEDIES:
        return KafkaRefusedError(address=address, what=what, cause=said, remedy=_REMEDIES[name])
    if name in _AWAY or found.retriable():
        return ServiceUnavailableError(service=SERVICE, address=address, cause=f"{what}: {said}")
    remedy = "Look this error up in Kafka's protocol guide; a retry does not help."
    return KafkaRefusedError(address=address, what=what, cause=said, remedy=remedy)


@contextmanager
def kafka_errors(*, address: str, what: str, load: str = "") -> Iterator[None]:
    """Turn the client's errors into the provider's."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise classify(error, address=address, what=what, load=load) from error


@cache
def _names() -> dict[int, str]:
    """Code → the constant's name, without which the codes could not be told from each other."""
    from confluent_kafka import KafkaError

    found = {name: getattr(KafkaError, name) for name in dir(KafkaError) if name.lstrip("_").isupper()}
    return {code: name for name, code in found.items() if isinstance(code, int)}
