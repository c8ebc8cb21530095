"""Cases of knative_scale_to_zero.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.knative_revision import Revision, RevisionSpec

SYSTEM = "knative-lifecycle"


def _revision_scaler(given: Mapping[str, Any]) -> dict[str, Any]:
    names = RevisionSpec.__dataclass_fields__
    spec = RevisionSpec(**{name: value for name, value in given.items() if name in names})
    state = given["state"]
    revision = Revision(spec, 0.0)
    revision.restore(
        {
            "condition": "activating" if state == "unknown_initial" else state,
            "since_s": -given["state_age_s"],
            "initialised": given["initial_scale_attained"],
            "proxy_since_s": -given["proxy_for_s"],
        }
    )

    def probe() -> bool:
        assert given["probe"] != "must_not_run", "the activator was probed"
        return bool(given["probe"] == "ok")

    scaled = revision.scale(0.0, given["proposal"], probe)
    return {"desired": scaled.desired, "applied": scaled.write and scaled.desired != given["start"]}


KINDS = {"revision_scaler": _revision_scaler}
