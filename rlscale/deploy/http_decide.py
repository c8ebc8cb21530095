"""Backend `http`: whoever scales asks. `POST /decide` takes metrics and fleet and answers with the targets.

There is no beat of its own: a question is a turn of the circle, and a second one within the control interval gets the
same answer, so that asking again after a lost answer changes nothing.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from rlscale.circle import turn
from rlscale.deploy.base import BackendError, Fleet, MetricsError, Reading
from rlscale.deploy.kinds import Kind, Site
from rlscale.deploy.pages import Answer, Page, json_answer
from rlscale.strict import Closed, Strict

if TYPE_CHECKING:
    from rlscale.deploy.live import Live


class HttpConfig(Strict):
    """`backend: {kind: http}`."""


class Metrics(Closed):
    """Of the service, over the last control interval; what is not known is left out."""

    taken_s: float | None = Field(None, description="unix time of the newest sample; default: now")
    arrival_per_s: float | None = Field(None, ge=0)
    waiting: float | None = Field(None, ge=0, description="requests that no replica has begun")
    running: float | None = Field(None, ge=0)
    ttft_s: float | None = Field(None, ge=0, description="mean time to first token")
    tpot_s: float | None = Field(None, ge=0, description="mean time per further token")
    attainment: float | None = Field(None, ge=0, le=1, description="share of requests within the SLO")
    dropped_per_s: float | None = Field(None, ge=0)
    ttft_p90_s: float | None = Field(None, ge=0)
    tpot_p90_s: float | None = Field(None, ge=0)
    prompt_tokens: float | None = Field(None, ge=0)
    answer_tokens: float | None = Field(None, ge=0)
    memory: list[float] = Field(default_factory=list, description="share of KV memory in use, per pool")
    running_by_pool: list[float] = Field(default_factory=list)
    replicas: list[float] = Field(default_factory=list, description="per pool: those whose metrics these are")

    def reading(self, now_s: float) -> Reading:
        """As every other source gives it."""
        values: dict[str, Any] = {
            name: math.nan if value is None else tuple(value) if isinstance(value, list) else value
            for name, value in self
        }
        return Reading(**(values | {"taken_s": now_s if self.taken_s is None else self.taken_s}))


class Replicas(Closed):
    """Per pool."""

    ready: list[int]
    pending: list[int]
    target: list[int] | None = Field(None, description="what is ordered; default: ready and pending")
    draining: list[int] | None = None

    def fleet(self, pools: int) -> Fleet:
        """Checked against the number of pools."""
        target = (
            self.target if self.target is not None else [a + b for a, b in zip(self.ready, self.pending, strict=False)]
        )
        for name, counts in (("ready", self.ready), ("pending", self.pending), ("target", target),
                             ("draining", self.draining or [0] * pools)):  # fmt: skip
            if len(counts) != pools or not all(0 <= count <= 1_000_000 for count in counts):
                raise BackendError(f"fleet.{name}: got {counts!r:.80}, expected {pools} counts from 0 up")
        return Fleet(tuple(self.ready), tuple(self.pending), tuple(target), tuple(self.draining or ()))


class Question(Closed):
    """What `POST /decide` takes."""

    metrics: Metrics
    fleet: Replicas


class Decided(BaseModel):
    """What `POST /decide` answers."""

    target: list[int] = Field(description="replicas per pool, ready and pending counted")
    reason: str
    fallback: bool = Field(description="whether the fallback decided")
    repeated: bool = Field(description="whether this is the answer of the same control interval once more")
    interval_s: float = Field(description="seconds after which the next question is a new one")


class Asked:
    """Source and backend in one: what the question said."""

    tolerance = 0.0

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reading: Reading | None = None
        self._fleet: Fleet | None = None
        self._lock = threading.Lock()
        self._answered_s = -math.inf

    def read(self) -> Reading:
        """The metrics of the question."""
        if self._reading is None:
            raise MetricsError("nobody has asked yet")
        return self._reading

    def fleet(self) -> Fleet:
        """The fleet of the question."""
        if self._fleet is None:
            raise BackendError("nobody has asked yet")
        return self._fleet

    def order(self, target: tuple[int, ...]) -> None:
        """The answer is the order."""

    def close(self) -> None:
        """Nothing is open."""

    def pages(self, live: Live) -> dict[tuple[str, str], Page]:
        """`POST /decide` and its description."""
        return {("POST", "/decide"): lambda body: self._decide(body, live),
                ("GET", "/openapi.json"): lambda _: json_answer(200, openapi())}  # fmt: skip

    def _decide(self, body: bytes, live: Live) -> Answer:
        try:
            question = Question.model_validate_json(body)
            fleet = question.fleet.fleet(len(self._site.limits.min_replicas))
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}"
                for item in error.errors(include_url=False)
            ]
            return json_answer(422, {"error": "; ".join(faults[:10])})
        except BackendError as error:
            return json_answer(422, {"error": str(error)})
        with self._lock:
            now_s = self._site.clock.steady_s()
            repeated = live.last is not None and now_s - self._answered_s < 0.5 * self._site.interval_s
            if not repeated:
                self._reading, self._fleet = question.metrics.reading(self._site.clock.unix_s()), fleet
                self._answered_s = now_s
                live.world.look()
                live.keep(turn(live.world, live.current, self._site.limits))
            last = live.last
            assert last is not None, "a turn was kept"
            answer = Decided(
                target=list(last.bounded.target), reason=last.bounded.reason, repeated=repeated,
                fallback=live.current.by_fallback, interval_s=self._site.interval_s,
            )  # fmt: skip
        return json_answer(200, answer.model_dump())


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 description of `/decide`."""
    schemas: dict[str, Any] = {}
    for model in (Question, Decided):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
    reference = {
        name: {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        for name in ("Question", "Decided")
    }
    return {
        "openapi": "3.1.0", "info": {"title": "rlscale", "version": "1"},
        "paths": {"/decide": {"post": {
            "summary": "Replicas for the next control interval",
            "requestBody": {"required": True, "content": reference["Question"]},
            "responses": {"200": {"description": "the targets", "content": reference["Decided"]},
                          "422": {"description": "what is wrong with the question"}},
        }}},
        "components": {"schemas": schemas},
    }  # fmt: skip


def _build(options: HttpConfig, site: Site) -> Asked:
    return Asked(site)


KIND = Kind(HttpConfig, _build)
