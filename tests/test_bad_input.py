"""What goes wrong in a user's hands, end to end: one clear error, nothing lost, nothing half-written, no traceback."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.__main__ import main

GOOD = {
    "summary": "a scenario of the tests",
    "slo": "{ttft_s: 1.0, tpot_s: 0.05}",
    "pools": "[{name: a, node: h100-x1, profile: h100-8b, min_replicas: 1, max_replicas: 4}]",
    "workload": "{kind: steady, rate_per_s: 10.0}",
}

# (changed field, its text, what the message must say, the line it must name)
SCENARIOS = [
    ("sloo", "{ttft_s: 1.0}", "unknown key 'sloo'; did you mean 'slo'", 5),
    ("slo", "{ttft_s: 1 s, tpot_s: 0.05}", "slo.ttft_s: got '1 s', expected a valid number", 2),
    ("slo", "{ttft_s: -1.0, tpot_s: 0.05}", "slo.ttft_s: got -1.0, expected greater than 0", 2),
    ("pools", "[{name: a, node: h100-x1, profile: h100-8b, min_replicas: 5, max_replicas: 4}]",
     "min_replicas=5 is above max_replicas=4; swap them", 3),
    ("pools", "[{name: a, node: h100-x9, profile: h100-8b, min_replicas: 1, max_replicas: 4}]",
     "unknown node profile 'h100-x9'; did you mean", None),
    ("pools", "[]", "pools", 3),
    ("workload", "{kind: steady, rate_per_s: .nan}", "rate_per_s", 4),
    ("workload", "{kind: stedy}", "did you mean 'steady'", 4),
]  # fmt: skip


def write(path: Path, **changed: str) -> Path:
    path.write_text("".join(f"{key}: {text}\n" for key, text in (GOOD | changed).items()))
    return path


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize(("field", "text", "says", "line"), SCENARIOS)
def test_a_wrong_scenario_is_one_error_with_file_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, field: str, text: str, says: str, line: int | None
) -> None:
    path = write(tmp_path / "my.yaml", **{field: text})
    more = ["--scalers", "fixed", "--seeds", "1"] if command == "compare" else ["-n", "100"]
    assert main([command, "--scenario", str(path), "--out", str(tmp_path / "out"), *more]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}")
    assert message.count("\n") == 1
    assert says in message
    assert line is None or f"line {line}:" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["slo", "pools", "workload"])
def test_a_missing_part_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("".join(f"{key}: {text}\n" for key, text in GOOD.items() if key != field))
    assert main(["train", "--scenario", str(path), "--out", str(tmp_path / "out"), "-n", "100"]) == 2
    assert f"'{field}' is missing" in capsys.readouterr().err


def test_train_refuses_a_folder_that_holds_a_policy_and_leaves_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "out" / "seed-0"
    there.mkdir(parents=True)
    (there / "manifest.json").write_text("mine")
    assert main(["train", "--scenario", "chat", "--out", str(tmp_path / "out"), "-n", "100"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (there / "manifest.json").read_text() == "mine"


def train(out: Path, steps: int, *more: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments", "train", "--scenario", "chat", "--out", str(out), "-n", str(steps),
               "--n-envs", "16", *more]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=Path(__file__).parents[1], start_new_session=True, **options)  # type: ignore[call-overload, no-any-return]  # fmt: skip


def test_ctrl_c_during_training_is_one_line_and_leaves_no_policy_behind(tmp_path: Path) -> None:
    process = train(tmp_path / "out", 50_000_000)
    deadline = time.monotonic() + 120.0
    while not list(tmp_path.glob("out/tensorboard/*/events*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60.0)
    assert process.returncode == 130
    assert errors.startswith("interrupted; ") and "--resume" in errors and errors.count("\n") == 1
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("out/seed-*"))


@pytest.mark.parametrize("most_bytes", [20_000, 600_000])
def test_a_disk_that_is_full_is_one_line_and_leaves_no_half_of_anything(tmp_path: Path, most_bytes: int) -> None:
    """Files may not grow beyond that: TensorBoard's does not fit, or it does and the weights of 1.1 MB do not."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    process = train(tmp_path / "out", 2048, "-params", "hidden:[512,512]", preexec_fn=limit)
    _, errors = process.communicate(timeout=120.0)
    assert process.returncode == 2
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert not list(tmp_path.glob("out/seed-*"))
    assert not list(tmp_path.glob("out/training/*/model.zip"))
    assert not list(tmp_path.rglob("*.partial*"))
