"""The messages of `externalscaler.proto`, built from a table when loaded: no generated code, any protobuf from 4.25 on.

Only for code that has made sure of the extra `keda`; see `server.py`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"
FILE = "externalscaler.proto"

_MESSAGES = {  # message -> (field, number, type); `*` repeats; a capital begins a message
    "ScaledObjectRef": (("name", 1, "string"), ("namespace", 2, "string"), ("scalerMetadata", 3, "map")),
    "IsActiveResponse": (("result", 1, "bool"),),
    "GetMetricSpecResponse": (("metricSpecs", 1, "*MetricSpec"),),
    "MetricSpec": (("metricName", 1, "string"), ("targetSize", 2, "old int64"), ("targetSizeFloat", 3, "double")),
    "GetMetricsRequest": (("scaledObjectRef", 1, "ScaledObjectRef"), ("metricName", 2, "string")),
    "GetMetricsResponse": (("metricValues", 1, "*MetricValue"),),
    "MetricValue": (("metricName", 1, "string"), ("metricValue", 2, "old int64"), ("metricValueFloat", 3, "double")),
}
_METHODS = {  # method -> (question, answer, whether a stream of answers)
    "IsActive": ("ScaledObjectRef", "IsActiveResponse", False),
    "StreamIsActive": ("ScaledObjectRef", "IsActiveResponse", True),
    "GetMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", False),
    "GetMetrics": ("GetMetricsRequest", "GetMetricsResponse", False),
    "StreamMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", True),
}
_Field = descriptor_pb2.FieldDescriptorProto


def file_descriptor() -> Any:
    """The whole file as a FileDescriptorProto, as protoc would make it."""
    file = descriptor_pb2.FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name, (question, answer, stream) in _METHODS.items():
        method = service.method.add(name=name, input_type=f".{PACKAGE}.{question}", output_type=f".{PACKAGE}.{answer}")
        if stream:
            method.server_streaming = True
    return file


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL, json_name=name)
    if kind.startswith("*") or kind == "map":
        field.label = _Field.LABEL_REPEATED
    if kind.startswith("old "):
        field.options.deprecated = True
    word = kind.removeprefix("old ").removeprefix("*")
    if word == "map":  # a map is a repeated message of key and value
        entry = message.nested_type.add(name=name[0].upper() + name[1:] + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, "string")
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{message.name}.{entry.name}"
    elif word[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{word}"
    else:
        field.type = getattr(_Field, f"TYPE_{word.upper()}")


# A pool of its own: another `externalscaler.proto` in the same process does not clash with this one.
POOL = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(file_descriptor().SerializeToString())
_class = {name: message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES}

ScaledObjectRef: Any = _class["ScaledObjectRef"]
IsActiveResponse: Any = _class["IsActiveResponse"]
GetMetricSpecResponse: Any = _class["GetMetricSpecResponse"]
MetricSpec: Any = _class["MetricSpec"]
GetMetricsRequest: Any = _class["GetMetricsRequest"]
GetMetricsResponse: Any = _class["GetMetricsResponse"]
MetricValue: Any = _class["MetricValue"]
