"""The five calls of the protocol as gRPC handlers over the board.

Only for code that has made sure of the extra `keda`; see `server.py`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from rlscale.deploy.keda import _wire, answers
from rlscale.deploy.keda.answers import RefusedError
from rlscale.deploy.keda.board import Board

LOOK_S = 1.0  # a stream looks at the board at least so often: that is how it notices an order going stale


class Rpcs:
    """Questions to answers, and how many of them there were by outcome."""

    def __init__(self, board: Board, max_streams: int) -> None:
        self._board = board
        self._free_streams = threading.Semaphore(max_streams)
        self._lock = threading.Lock()
        self._outcomes: Counter[tuple[str, str]] = Counter()

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Calls so far by method and status code."""
        with self._lock:
            return dict(self._outcomes)

    def handler(self) -> Any:
        """All of them as one gRPC handler."""
        unary, stream = self._unary, self._stream
        calls = {
            "IsActive": unary("IsActive", _wire.ScaledObjectRef, self._is_active),
            "StreamIsActive": stream("StreamIsActive", self._active_changes),
            "GetMetricSpec": unary("GetMetricSpec", _wire.ScaledObjectRef, self._spec),
            "GetMetrics": unary("GetMetrics", _wire.GetMetricsRequest, self._metrics),
            "StreamMetricSpec": stream("StreamMetricSpec", self._specs),
        }
        return grpc.method_handlers_generic_handler(_wire.SERVICE, calls)

    def _is_active(self, ref: Any) -> Any:
        return _wire.IsActiveResponse(result=answers.desired(self._board, ref.scalerMetadata) > 0)

    def _spec(self, ref: Any) -> Any:
        answers.which(self._board, ref.scalerMetadata)
        return _wire.GetMetricSpecResponse(
            metricSpecs=[
                _wire.MetricSpec(
                    metricName=answers.METRIC, targetSize=answers.TARGET, targetSizeFloat=float(answers.TARGET)
                )
            ]
        )

    def _metrics(self, request: Any) -> Any:
        answers.check_metric(request.metricName)
        wanted = answers.desired(self._board, request.scaledObjectRef.scalerMetadata)
        value = _wire.MetricValue(metricName=request.metricName, metricValue=wanted, metricValueFloat=float(wanted))
        return _wire.GetMetricsResponse(metricValues=[value])

    def _active_changes(self, ref: Any, context: Any) -> Iterator[Any]:
        """Whether it is active now and at every change; ends when that is not known any more."""
        told = None
        while context.is_active():
            version = self._board.version
            now = self._is_active(ref)
            if now != told:
                yield now
                told = now
            self._board.wait(version, LOOK_S)

    def _specs(self, ref: Any, context: Any) -> Iterator[Any]:
        """The specification, which never changes; the stream stays open, so that nobody asks again."""
        yield self._spec(ref)
        while context.is_active() and not self._board.closed:
            self._board.wait(self._board.version, LOOK_S)

    def _unary(self, method: str, question: Any, answer: Callable[[Any], Any]) -> Any:
        def call(raw: bytes, context: Any) -> Any:
            with _Outcome(self, method, context):
                return answer(_parsed(question, raw))

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=_bytes)

    def _stream(self, method: str, answer: Callable[[Any, Any], Iterator[Any]]) -> Any:
        def call(raw: bytes, context: Any) -> Iterator[Any]:
            with _Outcome(self, method, context):
                if not self._free_streams.acquire(blocking=False):
                    raise RefusedError("RESOURCE_EXHAUSTED", "too many streams are open; see max_streams")
                try:
                    context.add_callback(self._board.wake)  # a client that goes frees its thread at once
                    yield from answer(_parsed(_wire.ScaledObjectRef, raw), context)
                finally:
                    self._free_streams.release()

        return grpc.unary_stream_rpc_method_handler(call, response_serializer=_bytes)

    def count(self, method: str, code: str) -> None:
        """One more call that ended so."""
        with self._lock:
            self._outcomes[method, code] += 1


class _Outcome:
    """Turns a refusal into its status code, and counts."""

    def __init__(self, rpcs: Rpcs, method: str, context: Any) -> None:
        self._rpcs, self._method, self._context = rpcs, method, context

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedError):
            self._rpcs.count(self._method, error.code)
            self._context.abort(grpc.StatusCode[error.code], error.text)
        self._rpcs.count(self._method, "OK" if error is None or isinstance(error, GeneratorExit) else "UNKNOWN")


def _parsed(kind: Any, raw: bytes) -> Any:
    # Not left to gRPC, which logs a traceback for every message it cannot parse and calls it INTERNAL.
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise RefusedError("INVALID_ARGUMENT", f"{len(raw)} bytes that are no {kind.DESCRIPTOR.name}") from None


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
