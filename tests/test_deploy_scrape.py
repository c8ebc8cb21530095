"""Metrics without a Prometheus: pages of replicas that come, go and begin anew, and what a window of them says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlscale.deploy.base import LiveConfigError, MetricsError
from rlscale.deploy.scrape import Page, Scrape, ScrapeConfig, Scraped, parsed, reading_of_scrapes
from rlscale.types import Slo
from rlscale.yaml_file import checked

pytest.importorskip("prometheus_client", reason="needs prometheus-client")
SLO = Slo(1.0, 0.1)


def page(ended: float, running: float = 0.0, waiting: float = 0.0, aborted: float = 0.0, slow: float = 0.0) -> str:
    """A vLLM page: `ended` requests of 0.4 s to the first token and 0.04 s per token, `slow` ones of 3 s."""
    all_of = ended + slow
    label = 'model_name="m"'
    return f"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{label}}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{{label}}} {waiting}
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{{label}}} 0.25
# TYPE vllm:request_success counter
vllm:request_success_total{{finished_reason="stop",{label}}} {all_of}
vllm:request_success_total{{finished_reason="abort",{label}}} {aborted}
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{le="0.5",{label}}} {ended}
vllm:time_to_first_token_seconds_bucket{{le="1.0",{label}}} {ended}
vllm:time_to_first_token_seconds_bucket{{le="5.0",{label}}} {all_of}
vllm:time_to_first_token_seconds_bucket{{le="+Inf",{label}}} {all_of}
vllm:time_to_first_token_seconds_count{{{label}}} {all_of}
vllm:time_to_first_token_seconds_sum{{{label}}} {0.4 * ended + 3.0 * slow}
# TYPE vllm:request_time_per_output_token_seconds histogram
vllm:request_time_per_output_token_seconds_bucket{{le="0.05",{label}}} {all_of}
vllm:request_time_per_output_token_seconds_bucket{{le="+Inf",{label}}} {all_of}
vllm:request_time_per_output_token_seconds_count{{{label}}} {all_of}
vllm:request_time_per_output_token_seconds_sum{{{label}}} {0.04 * all_of}
# TYPE vllm:request_prompt_tokens histogram
vllm:request_prompt_tokens_bucket{{le="+Inf",{label}}} {all_of}
vllm:request_prompt_tokens_bucket{{le="1000",{label}}} {all_of}
vllm:request_prompt_tokens_count{{{label}}} {all_of}
vllm:request_prompt_tokens_sum{{{label}}} {500 * all_of}
other_metric 1
"""


def pages(*texts: str | None) -> tuple[Page | None, ...]:
    return tuple(None if text is None else parsed(text) for text in texts)


def test_a_window_says_rates_latencies_and_attainment() -> None:
    kept = [Scrape(100.0, pages(page(50.0, running=4.0))), Scrape(105.0, pages(page(60.0))),
            Scrape(110.0, pages(page(74.0, running=6.0, waiting=3.0, aborted=1.0, slow=6.0)))]  # fmt: skip
    seen = reading_of_scrapes(kept, SLO, pools=1)
    assert (seen.taken_s, seen.running, seen.waiting, seen.memory) == (110.0, 6.0, 3.0, (0.25,))
    # What ended, and the change of what is inside.
    assert seen.arrival_per_s == pytest.approx((24 + 6 + 1 + 6 + 3 - 4) / 10.0)
    assert seen.dropped_per_s == pytest.approx(0.1)
    assert seen.ttft_s == pytest.approx((24 * 0.4 + 6 * 3.0) / 30)
    assert seen.tpot_s == pytest.approx(0.04)
    assert seen.attainment == pytest.approx(24 / 31)  # what was aborted missed it as well
    assert seen.prompt_tokens == pytest.approx(500.0)
    assert math.isnan(seen.answer_tokens)


def test_replicas_that_come_go_and_begin_anew_do_not_disturb_the_counts() -> None:
    kept = [Scrape(0.0, pages(page(100.0), None, page(40.0))), Scrape(5.0, pages(page(110.0), page(5.0), None)),
            Scrape(10.0, pages(page(3.0), page(9.0), None))]  # fmt: skip
    # 10 and, begun anew, 3; 9 of the new one; the third is gone.
    assert reading_of_scrapes(kept, SLO, 1).arrival_per_s == pytest.approx((10 + 3 + 9) / 10.0)


def test_after_one_scrape_gauges_are_known_and_rates_are_not() -> None:
    seen = reading_of_scrapes([Scrape(0.0, pages(page(100.0, running=2.0)))], SLO, 1)
    assert seen.running == 2.0 and math.isnan(seen.arrival_per_s)


@pytest.fixture
def replica() -> Iterator[tuple[str, dict[str, str]]]:
    """A server of one page, and what it answers."""
    told = {"text": page(10.0)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = told["text"].encode()
            self.send_response(200 if text else 500)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_real_pages_are_read_and_grow_old_when_nobody_answers(replica: tuple[str, dict[str, str]]) -> None:
    url, told = replica
    options = ScrapeConfig(urls=[url, "http://127.0.0.1:1/metrics"], every_s=0.05, window_s=10.0, timeout_s=1.0)
    source = Scraped(options, SLO, pools=1)
    assert math.isnan(source.read().arrival_per_s)
    told["text"] = page(60.0)
    until_s = time.monotonic() + 10.0
    while not source.read().arrival_per_s > 0.0:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    told["text"] = "no page at all {"
    time.sleep(0.2)
    last = source.read().taken_s
    told["text"] = ""
    time.sleep(0.2)
    assert source.read().taken_s == last
    source.close()


def test_nobody_there_is_an_error() -> None:
    source = Scraped(ScrapeConfig(urls=["http://127.0.0.1:1/metrics"], timeout_s=0.5), SLO, 1)
    with pytest.raises(MetricsError, match="none of 1 pages"):
        source.read()
    source.close()


@pytest.mark.parametrize("url", ["ftp://a/b", "http://", "http://user:secret@host/metrics"])
def test_a_url_that_is_none_is_refused_without_telling_its_secret(url: str) -> None:
    with pytest.raises(LiveConfigError, match="expected http://HOST") as error:
        checked(ScrapeConfig, {"urls": [url]}, "live.yaml", LiveConfigError)
    assert "live.yaml" in str(error.value)
