"""Drivers' errors sorted by what recovers from them."""

import psycopg
import pytest

from tallyclerk.exceptions import RecordError, ServiceUnavailableError, SpecError, TallyclerkError, TerminalError
from tallyclerk.sources.database_errors import Address, classify, near

URI = "postgresql://me:s3cret%40x@db.example:6543/shop?application_name=x"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", ServiceUnavailableError),
        ("53300", ServiceUnavailableError),
        ("57P01", ServiceUnavailableError),
        ("57014", ServiceUnavailableError),
        ("40001", ServiceUnavailableError),
        ("28P01", SpecError),
        ("3D000", SpecError),
        ("42P01", SpecError),
        ("42703", SpecError),
        ("42501", SpecError),
        ("25006", SpecError),
        ("22012", RecordError),
        ("XX000", TerminalError),
    ],
)
def test_a_state_has_one_recovery(code: str, kind: type[TallyclerkError]) -> None:
    error = psycopg.errors.lookup(code)("said s3cret@x aloud")
    found = classify(error, address=Address.of(URI), relation="public.sales")
    assert type(found) is kind
    assert "s3cret" not in str(found)


def test_an_address_says_where_and_not_how() -> None:
    assert Address.of(URI).uri == "postgresql://db.example:6543/shop"
    assert Address.of("dbname=shop").uri == "postgresql://localhost:5432/shop"


def test_a_lost_connection_is_transient_and_a_refused_login_is_not() -> None:
    address = Address.of(URI)
    lost = classify(psycopg.OperationalError("consuming input failed: closed"), address=address, relation="t")
    refused = classify(psycopg.OperationalError('FATAL: role "me" does not exist'), address=address, relation="t")
    assert (type(lost), type(refused)) == (ServiceUnavailableError, SpecError)


def test_near_names_are_offered_without_regard_to_case() -> None:
    assert near("Custmer", ["customers", "sales"]) == "Did you mean customers?"
    assert near("zzz", ["a", "b"]) == "There are: a, b."
