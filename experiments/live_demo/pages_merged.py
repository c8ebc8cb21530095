"""Metrics pages of several replicas as one page, with a label that tells them apart."""

from __future__ import annotations

from collections.abc import Iterable


def merged(pages: Iterable[tuple[int, str]]) -> str:
    """(port, page) of every replica as one page in the text format; a family's samples stand together."""
    families: dict[str, list[str]] = {}
    heads: dict[str, list[str]] = {}
    for port, page in pages:
        family = ""
        for line in page.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                heads.setdefault(family, [])
                families.setdefault(family, [])
            if line.startswith("#"):
                if line not in heads.setdefault(family, []):
                    heads[family].append(line)
            elif line:
                families.setdefault(family, []).append(_labelled(line, port))
    return "".join(f"{line}\n" for family, lines in families.items() for line in [*heads.get(family, []), *lines])


def _labelled(sample: str, port: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{replica="{port}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{replica="{port}"}} {value}'
