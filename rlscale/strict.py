"""Models of what people and other programs write for us: taken as it stands, or refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """Nothing unknown, nothing infinite, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Strict(Closed):
    """Nor converted: a number in quotes is no number."""

    model_config = ConfigDict(strict=True)
