"""Bearer tokens, from files that clusters renew in place. No message quotes any of a token."""

from __future__ import annotations

from pathlib import Path

from rlscale.errors import RlscaleError

MAX_BYTES = 65_536


def token_of(path: Path, error: type[RlscaleError]) -> str:
    """The token as it is in the file now. Raises `error` when it cannot be read or is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as fault:
        why = f"{path}: the token cannot be read ({fault.strerror}); check the volume and its permissions"
        raise error(why) from None
    return clean(raw.decode("ascii", "replace"), str(path), error)


def clean(token: str, where: str, error: type[RlscaleError]) -> str:
    """The token without the end of its line, fit for a header. Raises `error` when it is none."""
    token = token.strip()
    if not token or len(token) > MAX_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise error(f"{where}: holds no token; expected one line of printable ASCII")
    return token
