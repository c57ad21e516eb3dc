"""Single values as PostgreSQL prints them; the expected texts are PostgreSQL 17's."""

import pytest

from tallyclerk.sources.database_text import date_text, days_of, microseconds_of, special_text, timestamp_text


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (0, "1970-01-01"),
        (-719_162, "0001-01-01"),
        (-719_163, "0001-12-31 BC"),
        (2_932_897, "10000-01-01"),
        (11_016, "2000-02-29"),
        (-2_147_472_692, "infinity"),  # 2^31 - 1 after 2000, as the driver's 32-bit shift leaves it
        (-2_147_472_691, "-infinity"),
    ],
)
def test_a_date_is_written_as_the_server_would(days: int, text: str) -> None:
    assert date_text(days) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01 00:00:00+00"),
        (-1, "1969-12-31 23:59:59.999999+00"),
        (1_500_000, "1970-01-01 00:00:01.5+00"),
        (-210_866_803_200_000_000, "4714-11-24 00:00:00+00 BC"),
        (-9_222_425_352_054_775_809, "infinity"),
        (-9_222_425_352_054_775_808, "-infinity"),
        (-9_222_426_144_109_551_616, "294276-12-31 00:00:00+00"),
    ],
)
def test_a_timestamp_is_written_as_the_server_would(microseconds: int, text: str) -> None:
    assert timestamp_text(microseconds, with_zone=True) == text


@pytest.mark.parametrize(("value", "text"), [(True, "t"), (False, "f"), (b"\x00\xff", "\\x00ff"), (7, "7")])
def test_other_values_are_written_as_the_server_would(value: object, text: str) -> None:
    assert special_text(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "infinity",
        "-infinity",
        "4713-11-24 BC",
        "0001-12-31 BC",
        "0001-01-01",
        "1970-01-01",
        "2024-02-29",
        "5874897-12-31",
    ],
)
def test_a_date_comes_back_when_its_text_is_read(text: str) -> None:
    assert date_text(days_of(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "infinity",
        "-infinity",
        "4713-11-24 00:00:00+00 BC",
        "0044-03-15 12:00:00.000001+00 BC",
        "1969-12-31 23:59:59.9+00",
        "12026-01-01 00:00:00.5+00",
        "294276-12-31 23:59:59.999999+00",
    ],
)
def test_a_timestamp_comes_back_when_its_text_is_read(text: str) -> None:
    assert timestamp_text(microseconds_of(text), with_zone=True) == text
    naive = text.replace("+00", "")
    assert timestamp_text(microseconds_of(naive), with_zone=False) == naive
