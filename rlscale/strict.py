"""The model of what people and other programs write for us: taken exactly as it stands, or refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Nothing unknown, nothing converted, nothing infinite, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
