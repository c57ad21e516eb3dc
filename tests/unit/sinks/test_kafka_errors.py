"""Errors of the Kafka client, sorted by what recovers from them."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from tallyclerk.exceptions import (
    ConcurrentLoadError,
    KafkaRefusedError,
    RecordError,
    ServiceUnavailableError,
    TallyclerkError,
)
from tallyclerk.sinks.kafka_errors import classify, kafka_errors


def ours(code: int, **facts: str) -> TallyclerkError:
    return classify(KafkaException(KafkaError(code)), address="127.0.0.1:9092", what="a message to 'sales'", **facts)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, "max.message.bytes"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "Create the topic"),
        (KafkaError._UNKNOWN_TOPIC, "Create the topic"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "WRITE"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "tallyclerk."),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, "IDEMPOTENT_WRITE"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "login"),
        (KafkaError._AUTHENTICATION, "login"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, "transaction.timeout.ms"),
        (KafkaError.INVALID_RECORD, "keys"),
        (KafkaError.UNSUPPORTED_VERSION, "protocol guide"),
    ],
)
def test_the_remedy_is_told_when_kafka_refuses(code: int, remedy: str) -> None:
    error = ours(code)
    assert isinstance(error, KafkaRefusedError)
    assert remedy in str(error)
    assert "a message to 'sales'" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.CONCURRENT_TRANSACTIONS,
    ],
)
def test_a_retry_may_help_when_kafka_is_away(code: int) -> None:
    error = ours(code)
    assert isinstance(error, ServiceUnavailableError)
    assert "127.0.0.1:9092" in str(error)


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
def test_the_load_is_named_when_another_attempt_took_over(code: int) -> None:
    error = ours(code, load="sales@2017-03-05")
    assert isinstance(error, ConcurrentLoadError)
    assert "sales@2017-03-05" in str(error)


def test_our_own_errors_stay_what_they_are_when_they_pass_through() -> None:
    with pytest.raises(RecordError, match="bad row"), kafka_errors(address="a", what="b"):
        raise RecordError("bad row")


def test_errors_of_others_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        classify(ZeroDivisionError(), address="a", what="b")


def test_the_cause_is_kept_when_an_error_is_turned() -> None:
    with pytest.raises(ServiceUnavailableError) as caught, kafka_errors(address="a", what="b"):
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))
    assert isinstance(caught.value.__cause__, KafkaException)
