"""The public data sets that can be fetched: where they are, what they must be, under which licence. Fetches nothing."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlscale.errors import TraceError, nearest
from rlscale.strict import Closed
from rlscale.workloads.readers import FORMATS
from rlscale.yaml_file import checked, read_mapping

TABLE = Path(__file__).with_name("datasets.yaml")

Check = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|git-blob:[0-9a-f]{40}|commit:[0-9a-f]{40}|rows:\d+)$")]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+/\S+$")]
Bytes = Annotated[int, Field(gt=0)]


class Licence(Closed):
    """What a user must agree to before a download."""

    title: str
    url: str
    terms: str = Field(description="what is allowed, in one sentence; whether the files may be passed on")


class DataSet(Closed):
    """One file of a publisher."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    what: str
    urls: tuple[Url, ...] = Field(min_length=1, description="the same file, best source first")
    bytes: Bytes | None = Field(None, description="exact size")
    about_bytes: Bytes | None = Field(None, description="size where it is not known exactly")
    checks: tuple[Check, ...] = Field((), description="the file must pass one of them; none: it cannot be checked")
    licence: str
    format: str | None = Field(None, description="how rlscale reads what a fetch leaves; none: it does not")
    convert: Literal["counts", "servegen", "bailian"] | None = Field(None, description="how the file becomes readable")
    gap_s: int = Field(0, ge=0, description="with `counts`: more zeros in a row than this are missing data")
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.format is not None and self.format not in FORMATS:
            raise ValueError(f"format '{self.format}'; {nearest(self.format, FORMATS)}")
        return self

    @property
    def file_name(self) -> str:
        """Name and ending; the ending is the publisher's."""
        published = PurePosixPath(urlsplit(self.urls[0]).path)
        return self.name + "".join(published.suffixes[-2:])

    @property
    def size_text(self) -> str:
        """Size for people."""
        size = self.bytes or self.about_bytes
        return "unknown" if size is None else ("" if self.bytes else "about ") + megabytes(size)

    @property
    def readable_text(self) -> str:
        """Whether rlscale reads it, for people."""
        return "no" if self.format is None else "yes" if self.convert is None else "converted"


class Catalogue(Closed):
    """All data sets by name, and their licences."""

    licences: dict[str, Licence]
    datasets: dict[str, DataSet]

    @model_validator(mode="after")
    def _licences_known(self) -> Self:
        for entry in self.datasets.values():
            if entry.licence not in self.licences:
                raise ValueError(f"{entry.name}: licence '{entry.licence}'; {nearest(entry.licence, self.licences)}")
        return self

    def get(self, name: str) -> DataSet:
        """A data set by name; raises TraceError with the nearest names."""
        if name not in self.datasets:
            hint = nearest(name, self.datasets)
            raise TraceError(f"unknown data set '{name}'; {hint} (`traces fetch --list` describes them all)")
        return self.datasets[name]


def catalogue(path: Path | None = None) -> Catalogue:
    """The table of data sets; raises TraceError when a new entry is not what it should be."""
    path = path or TABLE
    text, raw = read_mapping(path, "a mapping with licences and datasets", TraceError)
    for name, entry in raw["datasets"].items() if isinstance(raw.get("datasets"), dict) else ():
        if isinstance(entry, dict):
            entry["name"] = name
    return checked(Catalogue, raw, str(path), TraceError, text)


def megabytes(size: int) -> str:
    """A number of bytes for people: 320 kB, 692 MB, 1.1 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"
