"""Files that people write in YAML: read with a limit, checked against a model, every fault with its line and field."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rlscale.errors import RlscaleError, nearest

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 1_000_000  # a day of one-minute rates, written out, takes 10 kB

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_repr.maxlevel = 2  # a few lines of aliases of aliases would be gigabytes written out


def read_mapping(
    path: Path, expected: str, error: type[RlscaleError], most_bytes: int = MAX_BYTES
) -> tuple[str, dict[str, Any]]:
    """The text of a file and the mapping it says; `expected` ends the sentence `got ..., expected ...`.

    Raises `error` for what cannot be read, is too long, no text, no YAML or no mapping.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise error(f"{path}: has {size} bytes; expected at most {most_bytes}, {expected}")
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}); expected {expected}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: is not text; expected {expected}") from None
    return text, mapping(text, str(path), expected, error)


def mapping(text: str, where: str, expected: str, error: type[RlscaleError]) -> dict[str, Any]:
    """The mapping that a text says; only plain values, whatever tags ask for. Raises as `read_mapping`."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(fault, "problem", None) or "it cannot be parsed"
        raise error(f"{where}{line}: not YAML ({problem}); expected {expected}") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply; expected {expected}") from None
    except ValueError as fault:  # such as the date 2026-13-45
        raise error(f"{where}: not YAML ({fault}); expected {expected}") from None
    if not isinstance(raw, dict):
        raise error(f"{where}: got {_repr.repr(raw)}, expected {expected}")
    return raw


def checked(
    model: type[Model], raw: Any, where: str, error: type[RlscaleError], text: str = "", under: str = ""
) -> Model:
    """A model from plain values, or `error` with every fault: line (where there is text), field, got and expected.

    `under` is the key in the text below which the values stand.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as faults:
        root = yaml.compose(text) if text else None
        told = [_fault(item, model, root, under) for item in faults.errors(include_url=False)]
        raise error(f"{where}, {'; '.join(told)}" if text else f"{where}: {'; '.join(told)}") from None


def line_of(text: str, place: Sequence[int | str]) -> int:
    """Line (from 1) of the field at `place`, or of the innermost part of it that is in the text."""
    return _line(yaml.compose(text), place)


def _line(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    line = 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _fault(item: Any, model: type[BaseModel], root: yaml.Node | None, under: str) -> str:
    place = (under, *item["loc"]) if under else item["loc"]
    line = f"line {_line(root, place)}: " if root else ""
    field = ".".join(str(part) for part in place) or "file"
    if item["type"] == "extra_forbidden":
        return f"{line}unknown key '{field}'; {nearest(str(item['loc'][-1]), _known(model, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{line}'{field}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    got = "" if item["type"] == "value_error" else f"got {_repr.repr(item['input'])}, expected "
    return f"{line}{field}: {got}{message}"


def _known(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Keys that are known at a place of a model."""
    for part in place:
        field = model.model_fields.get(str(part))
        if field is not None:  # otherwise the number of an item in the list before
            model = next(_models(field.annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models that an annotation such as `list[Annotated[Entry, ...]] | None` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
