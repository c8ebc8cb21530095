"""One cluster as a Gymnasium environment: the circle cut open at Decide, bit-equal to `loop.run`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs import get_scenario
from envs.batch import TERMS, ClusterBatch
from envs.spaces import action_space, observation_space
from rlscale.actions import action_map
from rlscale.decide import carried_per_s
from rlscale.scenario_file import Split

RECENT = 240  # intervals a picture shows


class ClusterEnv(gymnasium.Env[NDArray[np.float32], Any]):
    """One episode is one whole load of a split, ended by truncation.

    `action`: "headroom" (level over the demand estimate), "delta" (replicas more or fewer), "pool-deltas" (per pool) or
    "continuous". Rewards are per interval and unscaled; `info` holds their raw terms.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self, scenario: str = "chat", split: Split = "train", action: str = "headroom", render_mode: str | None = None,
        engine: str = "fluid",
    ) -> None:  # fmt: skip
        self.engine = engine
        self.scenario, self.split, self.render_mode = get_scenario(scenario), split, render_mode
        self.known = self.scenario.limits
        self.actions = action_map(action)
        self.observation_space: Any = observation_space()
        self.action_space = action_space(self.actions, len(self.scenario.cluster.pools))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A load of the split and its luck, both from the seed.

        `options` may fix `load_seed`, `luck_seed`, the `first_cell` of the load and the number of `intervals`.
        """
        super().reset(seed=seed)
        chosen = options or {}
        load_seed = int(chosen.get("load_seed", self.np_random.integers(0, 1_000_000)))
        luck, first = int(chosen.get("luck_seed", load_seed)), int(chosen.get("first_cell", 0))
        self.load = self.scenario.sample_load(self.split, load_seed)
        self.batch = ClusterBatch(self.scenario, [self.load], 1, self.actions, engine=self.engine)
        whole = max(1, (len(self.load.values) - first) // self.scenario.cluster.substeps)
        length = np.array([int(chosen.get("intervals", whole))])
        self.batch.begin(np.array([0]), np.array([0]), np.array([first]), np.array([luck], np.uint64), length)
        self._trail: list[tuple[float, ...]] = []
        return self.batch.look()[0], {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Execute, one control interval, Feedback, Monitor."""
        batch = self.batch
        batch.step(np.asarray(action)[None])
        info: dict[str, Any] = {name: float(batch.terms[name][0]) for name in TERMS}
        info["target"] = tuple(int(count) for count in batch.world.pool["target"][0])
        if self.render_mode == "rgb_array":
            self._trail = [*self._trail[1 - RECENT :], self._now()]
        return batch.observation[0], float(batch.reward[0]), False, bool(batch.ended[0]), info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions change what they say, given the limits (the name that maskable agents ask for)."""
        found: NDArray[np.bool_] = self.actions.mask(self.batch.seen, self.known)[0]
        return found

    @property
    def world(self) -> Any:
        """The simulator."""
        return self.batch.world

    def render(self) -> Any:
        """One line of text, or a picture of the last intervals: load against ready and pending capacity."""
        if self.render_mode == "rgb_array":
            from envs.picture import picture

            return picture(self._trail, self.scenario.cluster.interval_s)
        if self.render_mode != "ansi":
            return None
        pool = self.batch.world.pool[0]
        t_s, _, _, waiting = self._now()[:4]
        return (
            f"t={t_s:.0f}s ready={pool['ready'].tolist()} pending={pool['pending'].tolist()} "
            f"target={pool['target'].tolist()} waiting={waiting:.0f} running={pool['running'].sum():.0f}"
        )

    def _now(self) -> tuple[float, float, float, float, float]:
        """Time, ready and pending capacity, waiting requests, load per second."""
        world, pool, cluster = self.batch.world, self.batch.world.pool[0], self.batch.world.cluster[0]
        waiting = max(0.0, float(cluster["queued"] - cluster["left"]))
        rate = float(np.nan_to_num(self.batch.seen.arrival_per_s[0]))
        return (
            float(world.t_s[0]),
            carried_per_s(pool["ready"], self.known),
            carried_per_s(pool["pending"], self.known),
            waiting,
            rate,
        )
