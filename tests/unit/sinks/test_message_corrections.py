"""What is said to have become of a rejected message."""

from __future__ import annotations

import hashlib

from tallyclerk.sinks.message_corrections import newest_outcomes


def test_a_messages_outcome_is_that_of_these_very_bytes() -> None:
    source, raw = "kafka://127.0.0.1:9092/sales/0", "base64:e30="  # {}
    sha256 = hashlib.sha256(b"{}").hexdigest()
    rejects = [
        {"source": source, "record_number": number, "raw_text": text}
        for number, text in ((1, raw), (2, raw), (3, "base64:e3g="), (4, None))
    ]
    corrections = [
        {"source": source, "record_number": 1, "sha256": sha256, "revision": 2, "sent_as": "sales/0:9", "text": "{}"},
        {"source": source, "record_number": 1, "sha256": sha256, "revision": 1, "sent_as": "", "text": None},
        {"source": source, "record_number": 2, "sha256": sha256, "revision": 3, "sent_as": "", "text": None},
        {"source": source, "record_number": 3, "sha256": sha256, "revision": 4, "sent_as": "sales/0:10", "text": "{}"},
    ]
    assert newest_outcomes(rejects, corrections) == ["replayed as sales/0:9", "given up", None, None]
