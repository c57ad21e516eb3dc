"""Single values as PostgreSQL would print them, for quarantine: BC dates and infinities included."""

from __future__ import annotations

_DAY = 86_400_000_000
_SHIFT_DAYS = 10_957  # 1970-01-01 to 2000-01-01, PostgreSQL's own zero
_POSTGRES_END_MICROSECOND = 9_223_371_331_200_000_000  # first instant after PostgreSQL's last, counted from 2000


def date_text(days: int) -> str:
    """Days since 1970, wrapped at 32 bits, as an ISO date (``0044-03-15 BC``, ``infinity``)."""
    since_2000 = _signed(days - _SHIFT_DAYS, 32)
    if since_2000 == 2**31 - 1:
        return "infinity"
    if since_2000 == -(2**31):
        return "-infinity"
    year, text = _civil(since_2000 + _SHIFT_DAYS)
    return f"{text} BC" if year <= 0 else text


def timestamp_text(microseconds: int, *, with_zone: bool) -> str:
    """Microseconds since 1970, wrapped at 64 bits, as an ISO timestamp in UTC."""
    since_2000 = _signed(microseconds - _SHIFT_DAYS * _DAY, 64)
    if since_2000 >= _POSTGRES_END_MICROSECOND:
        return "infinity"
    if since_2000 == -(2**63):
        return "-infinity"
    days, rest = divmod(since_2000 + _SHIFT_DAYS * _DAY, _DAY)
    year, text = _civil(days)
    seconds, fraction = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    clock += f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{text} {clock}{'+00' if with_zone else ''}{' BC' if year <= 0 else ''}"


def special_text(value: object) -> str:
    """Any other value: booleans as t and f, bytes in hex, the rest by ``str``."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return str(value)


def _signed(number: int, bits: int) -> int:
    return (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def _civil(days: int) -> tuple[int, str]:
    """The astronomical year and the date's text (proleptic Gregorian), from days since 1970.

    After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    shown = year if year > 0 else 1 - year
    return year, f"{shown:04d}-{month:02d}-{day:02d}"


def days_of(text: str) -> int:
    """The inverse of :func:`date_text`: any date as PostgreSQL prints it (``ISO``), as days since 1970 wrapped at 32 bits."""
    if text in ("infinity", "-infinity"):
        since_2000 = 2**31 - 1 if text == "infinity" else -(2**31)
    else:
        since_2000 = _days(text) - _SHIFT_DAYS
    return _signed(since_2000 + _SHIFT_DAYS, 32)


def microseconds_of(text: str) -> int:
    """The inverse of :func:`timestamp_text`, for a zone of UTC or none: microseconds since 1970 wrapped at 64 bits."""
    if text in ("infinity", "-infinity"):
        since_2000 = 2**63 - 1 if text == "infinity" else -(2**63)
        return _signed(since_2000 + _SHIFT_DAYS * _DAY, 64)
    day, _, clock = text.removesuffix(" BC").partition(" ")
    hours, minutes, seconds = clock.removesuffix("+00").split(":")
    whole, _, fraction = seconds.partition(".")
    within = (int(hours) * 3600 + int(minutes) * 60 + int(whole)) * 1_000_000 + int(fraction.ljust(6, "0"))
    return _days(day + (" BC" if text.endswith(" BC") else "")) * _DAY + within


def _days(text: str) -> int:
    """Days since 1970 of a date's text (after Hinnant, days_from_civil)."""
    shown, month, day = (int(part) for part in text.removesuffix(" BC").split("-"))
    year = 1 - shown if text.endswith(" BC") else shown
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
