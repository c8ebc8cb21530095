"""Published archives become tables that the readers take; hostile ones cannot write anywhere or fill the memory."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from experiments import convert as conversion
from experiments.checksums import verdict
from experiments.convert import convert
from experiments.datasets import DataSet
from rlscale.errors import TraceError
from rlscale.workloads.readers import read

COMMIT = "f" * 40


def entry(way: str, **more: object) -> DataSet:
    made = {"name": "data", "what": "", "licence": "", "urls": ["https://data.example/x.bin"], "convert": way, **more}
    return DataSet.model_validate(made)


def archive(path: Path, members: dict[str, bytes], compression: str = "gz", commit: str = "") -> Path:
    headers = {"comment": commit} if commit else {}
    with tarfile.open(path, f"w:{compression}", format=tarfile.PAX_FORMAT, pax_headers=headers) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_counts_per_second_become_a_series_and_long_silence_is_missing(tmp_path: Path) -> None:
    values = [5, 0, 0, 7, *[0] * 10, 9, 3]
    path = archive(tmp_path / "x.tbz2", {"some/where/workload.txt": " ".join(map(str, values)).encode() + b" "}, "bz2")
    (table,) = convert(entry("counts", gap_s=9), path)
    trace = read(table)
    assert table.name == "data_1s.csv.gz"
    assert (trace.format, trace.span_s) == ("series", len(values))
    assert trace.series is not None
    assert list(np.flatnonzero(trace.series.missing)) == list(range(4, 14))
    assert names(tmp_path) == {"x.tbz2", "data_1s.csv.gz"}


def test_bailian_times_are_seconds_and_get_sorted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    requests = [(0.5, 5), (61.125, 611), (7.0, 70)]
    lines = [{"timestamp": t, "input_length": n, "output_length": 1, "hash_ids": [1]} for t, n in requests]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (table,) = convert(entry("bailian"), path)
    trace = read(table)
    assert trace.requests is not None
    assert (trace.format, trace.span_s) == ("requests", 60.625)
    assert list(trace.requests.prompt_tokens) == [5, 70, 611]


def test_servegen_becomes_rates_and_quantiles_per_service(tmp_path: Path) -> None:
    even = "{10: 0.25, 20: 0.5, 400: 0.25, 900: 0.0}"
    lengths = {"0": {"input_tokens": even, "output_tokens": "{3: 1.0}"}, "21600": {"input_tokens": "{}"}}
    root = "ServeGen-ffff/data/language/m-small"
    members = {
        f"{root}/chunk-10-trace.csv": b"0,1.5,2.0,Gamma,0.25,2\n600,0,0,,0,0\n1200,0.25,0,,0,0\n",
        f"{root}/chunk-10-dataset.json": json.dumps(lengths).encode(),
        f"{root}/chunk-2-trace.csv": b"0,3.0,1.0,Weibull,1,1\n",
        "ServeGen-ffff/data/offline/trace_a.jsonl": b"{}",
        "../../../chunk-1-trace.csv": b"escaped",
        f"{root}/../../../../chunk-1-trace.csv": b"escaped",
    }
    path = archive(tmp_path / "x.tar.gz", members, commit=COMMIT)
    (rates,) = convert(entry("servegen"), path)
    trace = read(rates)
    assert rates.name == "data_m-small_rates.csv.gz"
    assert names(tmp_path) == {"x.tar.gz", rates.name, "data_m-small_tokens.csv.gz"}
    clients = trace.clients
    assert clients is not None
    assert list(clients.client) == [2, 10, 10]
    assert list(clients.rate_per_s) == [3.0, 1.5, 0.25]
    assert list(clients.cv) == [1.0, 2.0, 1.0]  # too few requests to tell: 1
    assert clients.tokens is not None
    p = clients.tokens.p
    assert list(clients.tokens.prompt[0][np.isin(p, [0, 0.2, 0.3, 0.7, 0.8, 1])]) == [10, 10, 20, 20, 400, 400]
    assert set(clients.tokens.output[0]) == {3}
    assert verdict(path, (f"commit:{COMMIT}",)).good


@pytest.mark.parametrize(
    ("way", "members", "says"),
    [
        ("counts", {"readme.txt": b""}, "0 members are called workload.txt, expected one"),
        ("counts", {"workload.txt": b"1 two 3"}, "two"),
        ("counts", {"workload.txt": b"1 -2"}, "counts of at least 0"),
        ("servegen", {"readme.txt": b""}, "nothing in it is known"),
        ("servegen", {"s/data/reason/r1/chunk-0-trace.csv": b"0,1\n"}, "not enough values"),
        ("servegen", {"s/data/reason/r1/chunk-0-dataset.json": b"[1]"}, "list"),
    ],
)
def test_an_archive_with_something_else_is_refused_and_leaves_nothing(
    tmp_path: Path, way: str, members: dict[str, bytes], says: str
) -> None:
    path = archive(tmp_path / "x.tar.gz", members)
    with pytest.raises(TraceError, match=rf"x\.tar\.gz is kept, but cannot be turned into tables: .*{says}"):
        convert(entry(way), path)
    assert names(tmp_path) == {"x.tar.gz"}


@pytest.mark.parametrize("kept", [0, 60])
def test_a_file_that_is_no_archive_or_half_of_one_is_refused(tmp_path: Path, kept: int) -> None:
    path = archive(tmp_path / "x.tar.gz", {"workload.txt": np.random.default_rng(1).bytes(5000).hex().encode()})
    path.write_bytes(path.read_bytes()[:kept] or b"not an archive")
    with pytest.raises(TraceError, match="cannot be turned into tables"):
        convert(entry("counts"), path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "x.tar.gz", {"zeros": bytes(3_000_000), "workload.txt": b"1 2"})
    monkeypatch.setattr(conversion, "MOST_BYTES", 2_000_000)
    with pytest.raises(TraceError, match="unpacks to more than 2 MB"):
        convert(entry("counts"), path)
    monkeypatch.setattr(conversion, "MOST_BYTES", 4_000_000)
    monkeypatch.setattr(conversion, "MOST_IN_ONE", 2)
    with pytest.raises(TraceError, match=r"workload\.txt has 3 bytes"):
        convert(entry("counts"), path)


def test_links_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("1 2 3")
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        link = tarfile.TarInfo("workload.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "secret"
        file.addfile(link)
    with pytest.raises(TraceError, match="0 members"):
        convert(entry("counts"), path)
