"""Training end to end: the command, what it leaves behind, how it is taken up again, what can be read of it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from envs import get_scenario
from experiments.__main__ import main
from experiments.board import LAYOUT
from experiments.train import add_arguments, plans_of
from rlscale.loop import run
from rlscale.policy_folder import WEIGHTS, load_policy

SMALL = {
    "ppo": ["n_envs:16", "n_steps:16", "batch_size:128", "loads:2", "hidden:[16]", "gamma:0.97"],
    "dqn": ["n_envs:16", "batch_size:64", "loads:2", "hidden:[16]", "gamma:0.97", "learning_starts:512",
            "buffer_size:2000", "target_update_interval:512"],
}  # fmt: skip
HOUR = """
summary: an hour of steady chat for the tests of the training
slo: {ttft_s: 1.0, tpot_s: 0.05}
pools: [{name: h100, node: h100-x1, profile: h100-8b, min_replicas: 1, max_replicas: 20}]
workload: {kind: steady, rate_per_s: 60.0, tokens: chat}
horizon_s: 7200.0
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "hour.yaml"
    path.write_text(HOUR)
    return path


def words(scenario: Path, out: Path, algo: str = "ppo", steps: int = 2048, *more: str) -> list[str]:
    return ["train", "--algo", algo, "--env", str(scenario), "--out", str(out), "-n", str(steps),
            "--eval-episodes", "1", *more, "-params", *SMALL[algo], "action:delta"]  # fmt: skip


def weights(out: Path, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(load_file(out / f"seed-{seed}" / WEIGHTS))


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def trained(
    request: pytest.FixtureRequest, scenario: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("runs") / "out"
    assert main(words(scenario, out, request.param)) == 0
    return request.param, out


def test_training_leaves_a_policy_that_runs_a_curve_and_nothing_half_done(
    trained: tuple[str, Path], scenario: Path
) -> None:
    algo, out = trained
    hour = replace(get_scenario(str(scenario)), horizon_s=1800.0)
    result = run(hour, load_policy(out / "seed-0", hour.limits), hour.sample_load("test", 0), 0)
    assert result.totals["requests"] > 0
    points = json.loads((out / "training" / "seed-0" / "curve.json").read_text())["points"]
    assert points[0]["steps"] == 0
    assert points[-1]["steps"] >= 2048
    assert all(later["seconds"] > earlier["seconds"] for earlier, later in itertools.pairwise(points))
    manifest = json.loads((out / "seed-0" / "manifest.json").read_text())
    assert manifest["algo"] == algo
    assert manifest["scenario_hash"] == get_scenario(str(scenario)).hash
    assert manifest["settings"]["action"] == manifest["actions"]["name"] == "delta"
    assert not (out / "training" / "seed-0" / "checkpoint.pt").exists()


def test_a_policy_goes_on_in_the_request_engine_from_what_the_fluid_taught_it(
    trained: tuple[str, Path], scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    algo, earlier = trained
    small, out = tmp_path / "short.yaml", tmp_path / "out"
    small.write_text(HOUR.replace("rate_per_s: 60.0", "rate_per_s: 6.0").replace("7200.0", "1800.0"))
    args = words(small, out, algo, 256, "--engine", "request", "--start-from", str(earlier))
    assert main(args) == 0
    assert json.loads((out / "run.json").read_text())["engine"] == "request"
    manifest = json.loads((out / "seed-0" / "manifest.json").read_text())
    assert manifest["engine"] == "request" and manifest["started_from"].startswith(str(earlier))
    # It was judged before its first step, and is among what is kept of it.
    assert manifest["steps"] in [point["steps"] for point in json.loads(
        (out / "training" / "seed-0" / "curve.json").read_text())["points"]]  # fmt: skip
    before, after = weights(earlier), weights(out)
    assert before.keys() == after.keys()
    # Inputs are standardised as before: by what was measured in the fluid.
    for name in ("normalise.mean", "normalise.std"):
        np.testing.assert_array_equal(before[name], after[name])
    capsys.readouterr()
    refusals = (
        (["--start-from", str(tmp_path)], "expected a folder that `train` has begun"),
        (["--start-from", str(earlier), "--seed", "7"], "is missing; --start-from needs a training that is complete"),
        (["--start-from", str(earlier), "-params", *SMALL[algo], "action:headroom"], "action 'delta', now 'headroom'"),
    )
    for more, message in refusals:
        other = ["train", "--algo", algo, "--env", str(small), "--out", str(tmp_path / "no"), "-n", "256"]
        assert main([*other, *more, *([] if "-params" in more else ["-params", *SMALL[algo], "action:delta"])]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_every_panel_of_tensorboard_has_data(trained: tuple[str, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    algo, out = trained
    events = EventAccumulator(str(out / "tensorboard" / "seed-0"), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    panels = {name.split("/")[0] for name in tags["scalars"]}
    assert panels >= {"rollout", "train", "eval", "time", "cost", "latency", "slo", "capacity", "action", "hparam"}
    for name in tags["scalars"]:
        assert all(np.isfinite(event.value) for event in events.Scalars(name)), name
    shown = {tag for charts in LAYOUT.values() for _, found in charts.values() for tag in found}
    absent = {
        "ppo": {"rollout/ep_rew_mean"},
        "dqn": {"train/value_loss", "train/policy_gradient_loss", "rollout/ep_rew_mean"},
    }
    assert shown - absent[algo] <= set(tags["scalars"])
    assert set(tags["histograms"]) >= {"action/taken", "capacity/waiting"}
    assert "capacity/load_against_capacity" in tags["images"]
    assert {"config/text_summary", "custom_scalars__config__"} <= set(tags["tensors"])
    hparams = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(hparams).session_start_info.hparams
    assert values["gamma"].number_value == pytest.approx(0.97)
    steps = [event.step for event in events.Scalars("slo/attainment")]
    assert steps == sorted(steps)


def test_a_folder_is_never_overwritten(
    trained: tuple[str, Path], scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    algo, out = trained
    before = weights(out)
    assert main(words(scenario, out, algo)) == 2
    assert "exists; --resume goes on with it" in capsys.readouterr().err
    assert main(words(scenario, out, algo, 4096, "--resume")) == 2
    assert "was begun with settings" in capsys.readouterr().err
    assert main(words(scenario, out, algo, 2048, "--resume")) == 0  # nothing is left to do
    for name, value in weights(out).items():
        np.testing.assert_array_equal(value, before[name])


class Killed(BaseException):
    """Ends a training as a signal would, at a moment of its own."""


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_training_cut_three_times_ends_with_the_same_parameters(algo: str, scenario: Path, tmp_path: Path) -> None:
    import argparse

    from experiments._training import train

    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def plan(out: Path, resume: bool) -> Any:
        more = ["--save-freq", "256", "--eval-freq", "1024", *(["--resume"] if resume else [])]
        return plans_of(parser.parse_args(words(scenario, out, algo, 6144, *more)[1:]))[0]

    smooth, rough = tmp_path / "smooth", tmp_path / "rough"
    with plan(smooth, False).folder.opened({}, False):
        train(plan(smooth, False))
    rng, cuts = random.Random(11), 0
    while not (rough / "seed-0").exists():
        limit = rng.randint(5, 9)
        told = 0

        def report(*_: Any, limit: int = limit, again: bool = cuts < 3) -> None:
            nonlocal told
            told += 1
            if told == limit and again:
                raise Killed

        current = replace(plan(rough, cuts > 0), report=report)
        with current.folder.opened({}, cuts > 0):
            try:
                train(current)
            except Killed:
                cuts += 1
    assert cuts == 3
    for name, value in weights(smooth).items():
        np.testing.assert_array_equal(weights(rough)[name], value)


def start(scenario: Path, out: Path, algo: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments", *words(scenario, out, algo, 40_000, "--save-freq", "2048", *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=Path(__file__).parents[1], start_new_session=True)  # fmt: skip


@pytest.mark.e2e
def test_a_killed_process_leaves_a_whole_checkpoint_and_resume_ends_as_if_undisturbed(
    scenario: Path, tmp_path: Path
) -> None:
    undisturbed = start(scenario, tmp_path / "smooth", "ppo")
    out = tmp_path / "rough"
    process = start(scenario, out, "ppo")
    deadline = time.monotonic() + 120
    while not (out / "training" / "seed-0" / "checkpoint.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "seed-0").exists()
    _, err = start(scenario, out, "ppo", "--resume").communicate(timeout=200)
    assert (out / "seed-0").exists(), err
    undisturbed.communicate(timeout=200)
    for name, value in weights(tmp_path / "smooth").items():
        np.testing.assert_array_equal(weights(out)[name], value)


def test_seeds_run_side_by_side_and_differ(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(words(scenario, out, "ppo", 1024, "--seeds", "2", "--seed", "3")) == 0
    first, second = weights(out, 3), weights(out, 4)
    assert not np.array_equal(first["0.weight"], second["0.weight"])


def test_a_folder_in_use_is_left_alone(scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(words(scenario, out, "ppo", 256)) == 0
    with (out / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(words(scenario, out, "ppo", 256, "--resume")) == 2
    assert "in use by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--env", "rlscale/Chatt-v0"], "did you mean"),
        (["--device", "cuda"], "torch sees no CUDA device"),
        (["-n", "0"], "--n-timesteps 0; expected at least 1"),
        (["--seeds", "0"], "--seeds 0; expected at least 1"),
        (["--resume"], "--resume needs --out"),
        (["--resume", "--out", "OUT"], "run.json"),
        (["-conf", "nowhere.yaml"], "nowhere.yaml"),
        (["-params", "gama:1"], "did you mean 'gamma'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main(["train", *[str(tmp_path / "out") if word == "OUT" else word for word in more]]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_tensorboard_folder_that_cannot_be_written_is_one_clear_error(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(words(scenario, tmp_path / "out", "ppo", 256, "-tb", str(tmp_path / "file" / "tb"))) == 2
    assert "TensorBoard cannot write here" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_is_refused(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(words(scenario, out, "ppo", 256)) == 0
    (out / "training" / "seed-0" / "checkpoint.pt").write_bytes(b"nothing of the kind")
    (out / "seed-0").rename(tmp_path / "away")
    assert main(words(scenario, out, "ppo", 256, "--resume")) == 2
    assert "checkpoint.pt: cannot be read" in capsys.readouterr().err


def test_weights_and_biases_is_imported_when_asked_for_and_only_then(scenario: Path, tmp_path: Path) -> None:
    code = "import sys; from experiments.__main__ import main; c = main(sys.argv[1:]); print('wandb' in sys.modules, c)"

    def loaded(out: Path, *more: str) -> str:
        # No key and no network: it must not ask, wait or fail.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | {"HOME": str(tmp_path)}
        found = subprocess.run([sys.executable, "-c", code, *words(scenario, out, "ppo", 256, *more)], text=True,
                               check=False, capture_output=True, env=environment,
                               cwd=Path(__file__).parents[1])  # fmt: skip
        assert found.returncode == 0, found.stderr
        return found.stdout.splitlines()[-1]

    assert loaded(tmp_path / "plain") == "False 0"
    assert loaded(tmp_path / "tracked", "--track") == "True 0"
    runs = list((tmp_path / "tracked" / "wandb").glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 1 and runs[0].stat().st_size > 0
