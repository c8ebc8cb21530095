"""`traces fetch` as a user meets it: licence, cache, mirror, errors in one line, and what to do next."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import odd_server as odd
import pytest
import yaml

from experiments import datasets, download, fetch
from experiments.__main__ import main
from experiments.checksums import verdict
from experiments.trace_cache import default_folder
from rlscale.errors import TraceError
from rlscale.workloads.readers import read

ROWS = "\n".join(f"{i * 60},{i % 7}" for i in range(2000))
BODY = f"timestamp,count\n{ROWS}\n".encode()
Fetch = Callable[..., int]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[odd.OddServer]:
    odd.forget_proxies(monkeypatch)
    monkeypatch.setattr(download.time, "sleep", lambda pause_s: None)
    with odd.running(BODY) as site:
        yield site


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return default_folder()


@pytest.fixture
def table(server: odd.OddServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue whose files lie on the odd server."""
    licence = {"title": "Some Licence", "url": "https://licence.example", "terms": "Do as you like."}
    entry = {"what": "a load", "licence": "free", "format": "series", "urls": [server.url("/data/load.csv")]}
    checked = {**entry, "bytes": len(BODY), "checks": [f"sha256:{hashlib.sha256(BODY).hexdigest()}"]}
    made = {"licences": {"free": licence}, "datasets": {"steps": checked, "unchecked": entry}}
    made["datasets"]["strange"] = {**entry, "format": None, "note": "call the publisher"}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(made))
    monkeypatch.setattr(datasets, "TABLE", path)


@pytest.fixture
def go(table: None) -> Fetch:
    def run(*words: object, accept: bool = True) -> int:
        flags = ["--accept-licence"] if accept else []
        return main(["traces", "fetch", *map(str, words), *flags])

    return run


def test_a_trace_is_fetched_checked_and_the_command_it_names_reads_it(
    go: Fetch, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("steps") == 0
    out = capsys.readouterr().out
    assert "Some Licence, https://licence.example\n  Do as you like." in out
    assert "steps: sha256 as published" in out
    command = out.splitlines()[-1].split()
    assert command[:5] == ["python", "-m", "experiments", "traces", "describe"]
    assert command[5] == str(cache / "steps.csv")
    assert main(command[3:]) == 0
    assert "120,000" in capsys.readouterr().out  # seconds


def test_a_second_fetch_asks_nobody_and_says_where_it_is(
    go: Fetch, cache: Path, server: odd.OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    go("steps")
    asked = len(server.seen)
    capsys.readouterr()
    assert go("steps", accept=False) == 0
    assert len(server.seen) == asked
    out = capsys.readouterr().out
    assert out.startswith("steps is here already (sha256 as published):\n")
    assert str(cache / "steps.csv") in out


def test_a_file_that_changed_in_the_cache_is_seen_and_one_that_was_only_touched_is_not(
    go: Fetch, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go("steps")
    os.utime(cache / "steps.csv", (1, 1))
    assert go("steps") == 0
    (cache / "steps.csv").write_bytes(BODY.replace(b"6", b"5"))
    assert go("steps") == 2
    assert "has changed since it was fetched" in capsys.readouterr().err


def test_a_file_brought_by_hand_is_taken_over_if_it_is_the_published_one(
    go: Fetch, cache: Path, server: odd.OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(parents=True)
    (cache / "steps.csv").write_bytes(BODY)
    (cache / "unchecked.csv").write_bytes(BODY)
    assert go("steps") == 0
    assert not server.seen
    assert go("unchecked") == 2
    assert "move it away" in capsys.readouterr().err
    assert (cache / "unchecked.csv").read_bytes() == BODY


def test_without_a_digest_it_says_so_and_prints_the_one_it_got(go: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("unchecked") == 0
    assert (
        f"unchecked, since no digest is published; sha256 {hashlib.sha256(BODY).hexdigest()}" in capsys.readouterr().out
    )


def test_what_rlscale_cannot_read_comes_with_its_note(go: Fetch, capsys: pytest.CaptureFixture[str]) -> None:
    assert go("strange") == 0
    assert capsys.readouterr().out.endswith("rlscale does not read it as it is: call the publisher\n")


def test_the_licence_has_to_be_accepted_and_that_is_remembered(
    go: Fetch, cache: Path, server: odd.OddServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go("steps", accept=False) == 2  # no terminal
    assert "add --accept-licence" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert go("steps", accept=False) == 2
    assert "was not accepted; nothing was downloaded" in capsys.readouterr().err
    assert not server.seen
    assert not cache.exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    server.script = [odd.status(404)]
    assert go("steps", accept=False) == 2
    monkeypatch.delattr("builtins.input")
    assert go("steps", accept=False) == 0
    assert "accepted earlier" in capsys.readouterr().out
    assert json.loads((cache / "accepted-licences.json").read_text())["steps"]["licence"] == "free"


@pytest.mark.parametrize(("path", "asked"), [("/mirror/", "/mirror/load.csv"), ("/elsewhere.bin", "/elsewhere.bin")])
def test_a_mirror_is_a_url_or_a_folder_and_does_not_escape_the_checks(
    go: Fetch, cache: Path, server: odd.OddServer, path: str, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [odd.corrupt]
    assert go("steps", "--url", server.url(path)) == 2
    assert "thrown away: sha256 is" in capsys.readouterr().err
    assert go("steps", "--url", server.url(path)) == 0
    assert [seen for seen, _ in server.seen] == [asked, asked]


def test_it_goes_where_to_says(go: Fetch, cache: Path, tmp_path: Path) -> None:
    assert go("steps", "--to", tmp_path / "here") == 0
    assert (tmp_path / "here" / "steps.csv").read_bytes() == BODY
    assert not cache.exists()


def test_every_misbehaviour_is_one_line_or_no_trouble(
    go: Fetch, cache: Path, server: odd.OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    acts = [odd.stalled(900), odd.truncated(900), odd.reset(900), odd.without_ranges_truncated(4000), odd.status(500)]
    server.script = acts
    assert go("steps", "--timeout", "0.15", "--retries", "9") == 0
    assert (cache / "steps.csv").read_bytes() == BODY
    capsys.readouterr()
    for act in (odd.instead(b""), odd.corrupt, odd.status(404), odd.instead(b"<html>")):
        server.script = [act]
        assert go("unchecked", "--to", cache / "x", "--url", server.url()) == (0 if act is odd.corrupt else 2)
        assert capsys.readouterr().err.count("\n") == (0 if act is odd.corrupt else 1)
        (cache / "x" / "unchecked.csv").unlink(missing_ok=True)
    assert not list((cache / "x").glob("*.part*"))


def test_ctrl_c_says_that_the_same_command_goes_on(
    go: Fetch, server: odd.OddServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(pause_s: float) -> None:
        raise KeyboardInterrupt

    server.script = [odd.truncated(900)]
    with monkeypatch.context() as patch:
        patch.setattr(download.time, "sleep", press)
        assert go("steps") == 130
    err = capsys.readouterr().err
    assert err.startswith("interrupted; 900 bytes are kept in ")
    assert "the same command goes on from there" in err
    assert go("steps") == 0
    assert server.seen[-1] == ("/data/load.csv", "bytes=900-")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["step"], "unknown data set 'step'; did you mean 'steps'"),
        ([], "which data set?"),
        (["steps", "--url", "ftp://mirror.example/"], "--url ftp://mirror.example/: expected http://"),
        (["steps", "--retries", "0"], "--retries 0"),
        (["steps", "--timeout", "nan"], "--timeout nan"),
    ],
)
def test_bad_arguments_are_one_line(
    table: None, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["traces", "fetch", *words, "--accept-licence"]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_the_list_says_what_is_here(
    go: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    go("steps")
    capsys.readouterr()
    assert go("--list") == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert {row[1].strip(): (row[4].strip(), row[5].strip()) for row in rows} == {
        "steps": ("yes", "yes"),
        "unchecked": ("yes", ""),
        "strange": ("no", ""),
    }


def test_a_file_has_to_pass_one_of_its_checks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    sha = hashlib.sha256(BODY).hexdigest()
    blob = "git-blob:" + hashlib.sha1(b"blob %d" % len(BODY) + bytes(1) + BODY).hexdigest()
    assert verdict(path, ("sha256:" + "0" * 64, blob)).words == "git-blob as published"
    assert not verdict(path, ("sha256:" + "0" * 64, "rows:7")).good
    assert verdict(path, ()).words == f"unchecked, since no digest is published; sha256 {sha}"
    assert verdict(path, ("commit:" + "0" * 40,)).words == f"commit is missing, expected {'0' * 40}"


def test_every_data_set_of_the_table_is_complete() -> None:
    table = datasets.catalogue()
    names = [entry.file_name for entry in table.datasets.values()]
    assert len(set(names)) == len(names) >= 25
    assert {entry.licence for entry in table.datasets.values()} == table.licences.keys()
    for entry in table.datasets.values():
        assert Path(entry.file_name).suffix, f"{entry.name}: the first URL has no ending"
        assert entry.format or entry.note, f"{entry.name}: say what to do with a file that rlscale does not read"
        assert entry.convert is None or entry.format, f"{entry.name}: converted to what?"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("licence", "mine", "licence 'mine'; known: free"),
        ("format", "serie", "format 'serie'; did you mean 'series'"),
        ("checks", ["sha256:12"], r"datasets\.new\.checks\.0"),
        ("urls", [], r"datasets\.new\.urls"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(tmp_path: Path, key: str, value: object, says: str) -> None:
    licence = {"title": "Some Licence", "url": "https://licence.example", "terms": "Do as you like."}
    entry = {"what": "a load", "licence": "free", "urls": ["https://data.example/load.csv"], key: value}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({"licences": {"free": licence}, "datasets": {"new": entry}}))
    with pytest.raises(TraceError, match=says):
        datasets.catalogue(path)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("azure-2023-code", "azure_llm_2023_code.csv.gz"),
        ("azure-2023-conv", "azure_llm_2023_conv.csv.gz"),
        ("mooncake-conversation", "mooncake_conversation.jsonl.gz"),
        ("nab", "nab_elb_request_count_5min.csv.gz"),
    ],
)
def test_published_files_pass_their_checks_and_read_as_announced(
    shared_traces: Path, server: odd.OddServer, cache: Path, name: str, published: str
) -> None:
    server.body = gzip.decompress((shared_traces / published).read_bytes())
    assert main(["traces", "fetch", name, "--url", server.url(), "--accept-licence"]) == 0
    entry = datasets.catalogue().get(name)
    assert read(cache / entry.file_name).format == entry.format


def test_the_help_names_the_environment_that_matters(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    fetch.add_arguments(parser)
    for word in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME", "--accept-licence"):
        assert word in parser.format_help()
