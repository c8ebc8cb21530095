"""The plan of someone who knows the future, against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlscale.optimal import Spells, best_plan, convex


def cost_of(
    wanted: tuple[int, ...], loss: np.ndarray, price: float, spells: Spells, begun: int, nodes: int, warm: int
) -> float:
    """Drive nodes by how many are wanted in each interval, as a cluster would; price x billed + losses.

    Independent of the planner: a node is absent, ordered, loading, ready or idle. What is wanted takes back idle nodes
    first, which load again for `warm` intervals if they have served before, then orders. Too many: the youngest go.
    """
    served = [True] * begun + [False] * (nodes - begun)
    state = ["ready"] * begun + ["absent"] * (nodes - begun)
    left = [0] * nodes
    total = 0.0
    for i, count in enumerate(wanted):
        for k in range(nodes):  # spells that have ended
            if left[k] == 0 and state[k] in ("ordered", "loading", "idle"):
                state[k] = {"ordered": "loading", "loading": "ready", "idle": "absent"}[state[k]]
                left[k] = {"loading": spells.load}.get(state[k], 0)
                if state[k] == "loading" and left[k] == 0:
                    state[k] = "ready"
        active = [k for k in range(nodes) if state[k] in ("ordered", "loading", "ready")]
        for k in reversed(active[count:] if len(active) > count else []):
            if state[k] == "ready":
                state[k], left[k] = ("idle", spells.idle) if spells.idle else ("absent", 0)
            else:
                state[k], left[k] = ("absent", 0) if state[k] == "ordered" or not spells.idle else ("idle", spells.idle)
        for _ in range(count - len(active)):
            back = [k for k in range(nodes) if state[k] == "idle"]
            new = [k for k in range(nodes) if state[k] == "absent"]
            if back:
                again = warm if served[back[0]] else spells.load
                state[back[0]], left[back[0]] = ("loading", again) if again else ("ready", 0)
            elif new:
                state[new[0]], left[new[0]] = "ordered", spells.provision
                if spells.provision == 0:
                    state[new[0]], left[new[0]] = "loading", spells.load
                    if spells.load == 0:
                        state[new[0]] = "ready"
        served = [(kind == "ready" or before) and kind != "absent" for kind, before in zip(state, served, strict=True)]
        ready = sum(kind == "ready" for kind in state)
        total += price * sum(kind in ("loading", "ready", "idle") for kind in state) + loss[i, ready]
        left = [max(0, spell - 1) for spell in left]
    return total


def instance(seed: int, exact: bool = True) -> tuple[np.ndarray, float, Spells, int, int, int]:
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(1, 4))
    steps = {1: 12, 2: 8, 3: 6}[nodes]
    saved = -np.sort(-rng.uniform(0.0, 3.0, (steps, nodes)) * (rng.random((steps, 1)) < 0.7), axis=1)
    loss = np.column_stack([saved.sum(axis=1), saved.sum(axis=1, keepdims=True) - saved.cumsum(axis=1)])
    provision, load = (int(n) for n in rng.integers(0, 3, 2))
    spells = Spells(provision, load, int(rng.integers(max(1, provision), 4) if exact else rng.integers(0, 3)))
    return (
        loss,
        float(rng.uniform(0.2, 2.0)),
        spells,
        int(rng.integers(0, nodes + 1)),
        nodes,
        int(rng.integers(0, spells.load + 1)),
    )


@pytest.mark.parametrize("seed", range(240))
def test_no_sequence_of_targets_is_cheaper_and_one_costs_the_same(seed: int) -> None:
    """240 random instances: 1 to 3 nodes, 6 to 12 intervals; start-ups, billing, idle returns of 0 to 2 each."""
    loss, price, spells, begun, nodes, warm = instance(seed)
    plan = best_plan(loss, price, spells, begun)
    tried = min(cost_of(wanted, loss, price, spells, begun, nodes, warm)
                for wanted in itertools.product(range(nodes + 1), repeat=len(loss)))  # fmt: skip
    assert price * plan.billed + plan.loss == pytest.approx(tried, rel=1e-9, abs=1e-9)
    assert plan.value == pytest.approx(tried, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", [*range(20), 218, 1075])
def test_where_nodes_idle_for_less_than_their_start_takes_the_value_is_a_lower_bound(seed: int) -> None:
    loss, price, spells, begun, nodes, warm = instance(seed, exact=False)
    tried = min(cost_of(wanted, loss, price, spells, begun, nodes, warm)
                for wanted in itertools.product(range(nodes + 1), repeat=len(loss)))  # fmt: skip
    assert best_plan(loss, price, spells, begun).value <= tried + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_prices_by_node_lie_between_the_cheapest_for_all_and_the_dearest_for_all(seed: int) -> None:
    loss, price, spells, begun, nodes, _ = instance(seed)
    prices = price * np.linspace(1.0, 2.0, nodes)
    plans = [best_plan(loss, p, spells, begun) for p in (prices, float(prices.min()), float(prices.max()))]
    assert plans[1].value - 1e-9 <= plans[0].value <= plans[2].value + 1e-9
    assert plans[0].cost + plans[0].loss >= plans[0].value - 1e-9
    same = best_plan(loss, np.full(nodes, price), spells, begun)
    assert same.value == best_plan(loss, price, spells, begun).value


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    """Load 3, idle 2: a gap of 5 costs the same either way, one of 6 is worth a return."""
    for gap, billed in ((4, 14), (6, 15)):
        loss = np.zeros((10 + gap, 2))
        loss[:5, 0] = loss[5 + gap :, 0] = 100.0
        plan = best_plan(loss, 1.0, Spells(0, 3, 2), 1)
        assert plan.billed == billed
        assert plan.loss == 0.0


def test_the_first_replicas_stay_where_a_minimum_asks_for_them() -> None:
    plan = best_plan(np.zeros((10, 4)), 1.0, Spells(1, 1, 1), begun=3, least=2)
    assert plan.ready.tolist() == [2] * 10
    assert plan.billed == 21.0


def test_losses_become_their_largest_convex_falling_minorant() -> None:
    hull = convex(np.array([[10.0, 10.0, 1.0, 2.0, 0.0], [4.0, 1.0, 0.5, 0.2, 0.0]]))
    assert hull[0] == pytest.approx([10.0, 5.5, 1.0, 0.5, 0.0])
    assert hull[1] == pytest.approx([4.0, 1.0, 0.5, 0.2, 0.0])
