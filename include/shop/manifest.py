"""The list of the shop's own files in the landing folder, ``.shop-export.json``: what may be kept, mended, removed.

It holds the files' sizes under a stamp, the versions of package and format. While the stamp holds, a file of the
listed size is good. When the stamp differs, none is; a list of an earlier format is read likewise. A file that is
not listed is somebody else's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from include.shop.exceptions import ShopError

MANIFEST_NAME = ".shop-export.json"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the content of a day's file depends on, beside the day."""

    package_version: str
    format_version: int


@dataclass(slots=True)
class Manifest:
    """The sizes of our files by day; None for one that is ours but not known to be good."""

    folder: Path
    stamp: Stamp
    sizes: dict[date, int | None]

    @classmethod
    def read(cls, folder: Path, stamp: Stamp) -> "Manifest":
        """The folder's list as ``stamp`` sees it; empty where there is none.

        :raises ShopError: the list cannot be read.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            return cls(folder, stamp, {})
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            listed: Mapping[str, int | None] = document["files"]
            holds = document["stamp"] == asdict(stamp)
            sizes = {_day_of(name): size if holds else None for name, size in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ShopError(
                f"{path} cannot be read ({error!r}): remove it and the transactions_*.csv beside it."
            ) from error
        return cls(folder, stamp, sizes)

    def write(self) -> None:
        """Write the list in place of the one that is there."""
        files = {file_name(day): size for day, size in sorted(self.sizes.items())}
        write_whole(
            self.folder / MANIFEST_NAME, json.dumps({"stamp": asdict(self.stamp), "files": files}, indent=1).encode()
        )

    def path(self, day: date) -> Path:
        """Where the day's file belongs."""
        return self.folder / file_name(day)

    def is_good(self, day: date) -> bool:
        """Whether the day's file is ours and has its listed size."""
        size = self.sizes.get(day)
        return size is not None and self.path(day).is_file() and self.path(day).stat().st_size == size


def file_name(day: date) -> str:
    """The name of a day's file."""
    return f"transactions_{day.isoformat()}.csv"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole, by a rename, or not at all."""
    temporary = path.with_name(f".{path.name.lstrip('.')}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _day_of(name: str) -> date:
    day = date.fromisoformat(name.removeprefix("transactions_").removesuffix(".csv"))
    if file_name(day) != name:
        raise ValueError(f"{name} is no name of a day's file")
    return day
