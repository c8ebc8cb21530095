"""Fetches public traces: shows the licence, downloads, checks, and says what to do with what is there now."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from experiments.page import page
from rlscale.errors import TraceError

if TYPE_CHECKING:
    from experiments.datasets import Catalogue, DataSet
    from experiments.trace_cache import TraceCache

DESCRIPTION = """\
Download a public trace, check it, and keep it in the cache. An interrupted download goes on where it stopped when the
same command is run again. A second fetch only says where the file is."""
EPILOG = """\
examples:
  traces fetch --list
  traces fetch azure-2023-code
  traces fetch nab --accept-licence --to data
  traces fetch mooncake-conversation --url https://mirror.example/traces/

The environment says how to reach the network: HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE; and XDG_CACHE_HOME where the
cache is (by default ~/.cache)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m experiments traces fetch`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", nargs="?", help="name of the data set")
    parser.add_argument("--list", action="store_true", help="what there is: size, licence, whether it is here already")
    parser.add_argument("--url", help="take it from here instead; ending in / it is the folder of a mirror")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="keep it there; by default in the cache")
    parser.add_argument(
        "--accept-licence", "--accept-license", action="store_true", help="accept the licence without being asked"
    )
    parser.add_argument(
        "--retries", type=int, default=5, metavar="N", help="give up after N attempts that bring nothing new (5)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds without a byte that end an attempt (30)"
    )


def run(args: argparse.Namespace) -> int:
    """List, or fetch one."""
    from experiments.datasets import catalogue
    from experiments.trace_cache import TraceCache, default_folder

    table, cache = catalogue(), TraceCache((args.to or default_folder()).expanduser().absolute())
    if args.list:
        _list(table, cache)
        return 0
    if args.name is None:
        raise TraceError("which data set? `traces fetch NAME`; `traces fetch --list` names them")
    entry = table.get(args.name)
    if cache.intact(entry):
        print(f"{entry.name} is here already ({cache.check_words(entry)}):")
    else:
        _agree(table, entry, cache, args.accept_licence)
        _download(entry, cache, args)
        print(f"{entry.name}: {cache.check_words(entry)}")
    print(f"  {cache.path(entry)}")
    _say_what_next(entry, cache)
    return 0


def _agree(table: Catalogue, entry: DataSet, cache: TraceCache, given: bool) -> None:
    """Show the licence; raises TraceError unless it is accepted, by a flag, now, or earlier."""
    licence = table.licences[entry.licence]
    print(f"{entry.name}: {entry.what} ({entry.size_text})")
    print(f"licence: {licence.title}, {licence.url}\n  {licence.terms}")
    if cache.accepted(entry):
        print("  accepted earlier")
        return
    if not given:
        if not sys.stdin.isatty():
            raise TraceError(f"the licence of {entry.name} must be accepted; read it, then add --accept-licence")
        try:
            answer = input("Accept it? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise TraceError(f"the licence of {entry.name} was not accepted; nothing was downloaded")
    cache.accept(entry)


def _download(entry: DataSet, cache: TraceCache, args: argparse.Namespace) -> None:
    from experiments.download import Patience, Wanted, download
    from experiments.fetch_progress import Bar

    if args.retries < 1 or not args.timeout > 0:
        raise TraceError(f"--retries {args.retries} --timeout {args.timeout:g}: expected at least 1 and more than 0")
    urls = entry.urls if args.url is None else (_mirrored(args.url, entry),)
    wanted = Wanted(urls, cache.path(entry), entry.bytes, entry.checks)
    with Bar(entry.name) as bar:
        url, result = download(wanted, Patience(args.retries, args.timeout), bar)
    cache.record(entry, url, result)


def _mirrored(url: str, entry: DataSet) -> str:
    """The URL given, or under a folder the file by the publisher's name."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise TraceError(f"--url {url}: expected http://... or https://...")
    return url + urlsplit(entry.urls[0]).path.rpartition("/")[2] if url.endswith("/") else url


def _say_what_next(entry: DataSet, cache: TraceCache) -> None:
    """The commands that read it, after making it readable."""
    from experiments.convert import convert

    paths = [cache.path(entry)]
    if entry.convert is not None:
        ready = cache.ready(entry)
        if ready is None:
            print("turning it into tables ...", flush=True)
            ready = convert(entry, cache.path(entry))
            cache.note_ready(entry, ready)
        paths = ready
    if entry.format is None:
        print(f"rlscale does not read it as it is: {entry.note or 'no reader for it yet'}")
        return
    if entry.note:
        print(f"note: {entry.note}")
    print("next:" if len(paths) == 1 else "next, one of:")
    for path in paths:
        print(f"  python -m experiments traces describe {shlex.quote(str(path))}")


def _list(table: Catalogue, cache: TraceCache) -> None:
    from rich.table import Table

    shown = Table(title=f"Public traces; those that are here lie in {cache.folder}", title_justify="left")
    for column in ("name", "size", "licence", "rlscale reads it", "here", "what"):
        shown.add_column(column, no_wrap=column == "name", overflow="fold")
    for name, entry in table.datasets.items():
        state = "yes" if cache.has(entry) else ""
        shown.add_row(name, entry.size_text, entry.licence, entry.readable_text, state, entry.what)
    page().print(shown)
    for name in sorted({entry.licence for entry in table.datasets.values()}):
        print(f"{name}: {table.licences[name].title}. {table.licences[name].terms}")
