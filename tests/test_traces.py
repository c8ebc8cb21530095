"""`describe` reproduces the published figures of real traces; unreadable ones are refused with file, line, column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from experiments.__main__ import main
from rlscale.errors import TraceError
from rlscale.workloads.describe import describe
from rlscale.workloads.readers import read

# mean, CV, local CV, IDC 1/10/60 s, prompt p50/p95/p99, output p50/p95/p99
REQUESTS = {
    "azure_llm_2023_code.csv.gz": (2.57, 13.2, 9.9, (13.2, 71.6, 164), (1469, 7303, 7436), (13, 90, 251)),
    "azure_llm_2023_conv.csv.gz": (5.53, 1.09, 1.04, (1.39, 3.86, 16.1), (1020, 4083, 4142), (129, 451, 601)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_azure_hours_read_as_published(shared_traces: Path, name: str) -> None:
    mean, cv, local, idc, prompt, output = REQUESTS[name]
    d = describe(read(shared_traces / name))
    assert d.mean_per_s == pytest.approx(mean, rel=0.002)
    assert d.cv == pytest.approx(cv, rel=0.006)
    assert d.local_cv == pytest.approx(local, rel=0.006)
    assert [d.idc[w] for w in (1.0, 10.0, 60.0)] == pytest.approx(idc, rel=0.006)
    assert d.prompt is not None
    assert d.output is not None
    assert (d.prompt.p50, d.prompt.p95, d.prompt.p99) == pytest.approx(prompt, rel=0.001)
    assert (d.output.p50, d.output.p95, d.output.p99) == pytest.approx(output, rel=0.005)


def test_mooncake_is_nearly_poisson_once_its_grid_is_spread(shared_traces: Path) -> None:
    d = describe(read(shared_traces / "mooncake_conversation.jsonl.gz"))
    assert (d.mean_per_s, d.cv) == pytest.approx((3.40, 1.01), abs=0.02)
    assert [d.idc[w] for w in (1.0, 10.0, 60.0)] == pytest.approx((1.1, 1.5, 2.8), abs=0.06)


@pytest.mark.parametrize(
    ("name", "mean", "lowest", "peak", "tops", "cvs", "residual"),
    [
        ("m-small", 1174, 0, 3880, (0.30, 0.77, 0.93), (3.6, 1.2, 9.1), (0.22, 0.89)),
        ("m-large_days0-7", 214, 93, 583, (0.16, 0.46, 0.69), (3.5, 1.15, 9.4), (0.26, 0.88)),
        ("deepseek-r1", 16.0, 4.3, 42.5, (0.29, 0.52, 0.68), (2.3, 1.0, 5.8), (0.26, 0.64)),
    ],
)
def test_servegen_services_read_as_published(
    shared_traces: Path, name: str, mean: float, lowest: float, peak: float, tops: tuple[float, ...],
    cvs: tuple[float, ...], residual: tuple[float, ...],
) -> None:  # fmt: skip
    d = describe(read(shared_traces / f"servegen_{name}_rates.csv.gz"))
    assert d.clients is not None
    c = d.clients
    assert (d.mean_per_s, c.min_600s_per_s, d.peak_per_s[600.0]) == pytest.approx((mean, lowest, peak), rel=0.005)
    assert (c.top1, c.top5, c.top10) == pytest.approx(tops, abs=0.006)
    assert (c.cv_by_rate, c.cv_median, c.cv_p95) == pytest.approx(cvs, rel=0.04)
    assert (c.residual_sigma, c.residual_autocorrelation) == pytest.approx(residual, abs=0.006)


def test_series_read_as_published(shared_traces: Path) -> None:
    twitter = describe(read(shared_traces / "twitter_2021-08_days1-13_1s.csv.gz"))
    assert [twitter.idc[w] for w in (1.0, 10.0, 60.0)] == pytest.approx((26, 249, 1451), rel=0.005)
    assert (twitter.mean_per_s, twitter.peak_per_s[10.0], twitter.peak_per_s[60.0]) == pytest.approx(
        (65.0, 319, 300), rel=0.002
    )
    nasa = describe(read(shared_traces / "nasa_1995-07_10s.csv.gz"))
    assert (nasa.peak_per_s[10.0], nasa.peak_per_s[60.0]) == pytest.approx((8.3, 6.8), rel=0.01)
    assert (nasa.idc[10.0], nasa.idc[60.0]) == pytest.approx((5.4, 22), rel=0.01)
    elb = describe(read(shared_traces / "nab_elb_request_count_5min.csv.gz"))
    assert (elb.mean_per_s, elb.idc[300.0], elb.peak_per_s[300.0]) == pytest.approx((0.206, 52, 2.19), rel=0.005)


HEAD = "timestamp,prompt_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"empty"),
        (HEAD, r"(no|empty|row)"),
        (HEAD + "0.0,10,5\n2.0,10,5\n1.0,10,5\n", r"line 4"),
        (HEAD + "0.0,10,5\n1.0,ten,5\n", r"line 3.*prompt_tokens"),
        (HEAD + "0.0,10,5\n1.0,nan,5\n", r"line 3.*prompt_tokens"),
        (HEAD + "0.0,10,5\n1.0,-4,5\n", r"line 3.*prompt_tokens"),
        (HEAD + "0.0,10,5\n1.0,10\n", r"line 3"),
        ("timestamp,prompt_tokens\n0.0,10\n", r"output_tokens"),
    ],
)
def test_a_broken_trace_is_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=message) as caught:
        read(path, "requests" if text else "auto")
    assert "trace.csv" in str(caught.value)


def test_a_truncated_gzip_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEAD + "".join(f"{i}.0,10,5\n" for i in range(5000))).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.csv.gz", "none.csv", "."):
        with pytest.raises(TraceError):
            read(tmp_path / name)


def test_chats_that_need_a_table_first_are_refused_and_told_how(tmp_path: Path) -> None:
    (tmp_path / "qwen.jsonl").write_text('{"chat_id": 0, "timestamp": 0.1, "input_length": 3, "output_length": 4}\n')
    with pytest.raises(TraceError, match=r"qwen\.jsonl.*line 1.*Qwen-Bailian.*traces fetch"):
        read(tmp_path / "qwen.jsonl")


def test_the_commands_print_and_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEAD + "".join(f"{i / 2},10,5\n" for i in range(4000)))
    assert main(["traces", "describe", str(path)]) == 0
    assert "mean rate" in capsys.readouterr().out
    assert main(["traces", "list", str(tmp_path)]) == 0
    assert "trace.csv" in capsys.readouterr().out
    assert main(["traces", "list", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
