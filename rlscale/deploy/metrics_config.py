"""What live.yaml may say under `metrics`, and the source it describes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from rlscale.deploy.base import LiveConfigError
from rlscale.deploy.kinds import Kind, Site
from rlscale.deploy.prometheus import Prometheus
from rlscale.deploy.prometheus_http import checked_url
from rlscale.deploy.templates import Scalar, load_template, matchers
from rlscale.strict import Strict
from rlscale.types import Slo

Labels = dict[str, Annotated[str, Field(max_length=1024)]]


class MetricsConfig(Strict):
    """Where metrics come from."""

    model_config = ConfigDict(hide_input_in_errors=True)

    kind: Literal["prometheus"] = "prometheus"
    url: str = Field(description="of the server, with the path before /api/v1")
    template: str = Field("vllm", description="vllm, sglang, triton, ray-serve, http, or a file ending in .yaml")
    labels: Labels = Field(default_factory=dict, description="that choose the service's series, exactly equal")
    window_s: float = Field(60.0, ge=0.1, le=86_400.0, description="of rates and histograms")
    timeout_s: float = Field(5.0, gt=0.0, le=300.0, description="of a whole reading")
    queries: dict[Scalar, str] = Field(default_factory=dict, description="PromQL instead of the template's, by field")
    pools: list[Labels] = Field(default_factory=list, description="labels of each pool, in the order of the scenario")
    token_file: str | None = Field(None, description="bearer token, read anew for every request")
    ca_file: str | None = Field(None, description="certificates to trust instead of the system's, PEM")

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        try:
            checked_url(url)
        except LiveConfigError as error:
            raise ValueError(str(error)) from None
        return url

    @field_validator("labels", "pools")
    @classmethod
    def _label_names(cls, given: Labels | list[Labels]) -> Labels | list[Labels]:
        try:
            for labels in given if isinstance(given, list) else [given]:
                matchers(labels)
        except LiveConfigError as error:
            raise ValueError(str(error)) from None
        return given


def source_of(config: MetricsConfig, slo: Slo, pools: int) -> Prometheus:
    """The source for a service of `pools` pools. One pool needs no labels of its own: all series are of it.

    Raises LiveConfigError for a template that cannot be read or labels for another number of pools.
    """
    own = config.pools or ([{}] if pools == 1 else [])
    if own and len(own) != pools:
        raise LiveConfigError(
            f"metrics.pools: got labels of {len(own)} pools, the scenario has {pools}; expected one entry per pool"
        )
    queries = {str(name): text for name, text in config.queries.items()}
    return Prometheus(config.url, load_template(config.template), slo, config.labels, config.window_s, config.timeout_s,
                      queries, own, config.token_file, config.ca_file)  # fmt: skip


def _build(options: MetricsConfig, site: Site) -> Prometheus:
    return source_of(options, site.limits.slo, len(site.limits.min_replicas))


KIND = Kind(MetricsConfig, _build)
