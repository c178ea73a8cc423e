"""The topic map as an AsyncAPI 3 document: https://www.asyncapi.com/docs/reference/specification/v3.1.0."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from contracts.envelope import CONTENT_TYPE, SPEC_VERSION
from contracts.messages.base import Message
from contracts.topics import MESSAGE_TYPES, PARTITIONS, SERVICES, TOPICS, ServiceName, Topic

Json = dict[str, Any]

KAFKA_BINDING: Final = "0.5.0"
"""The version of AsyncAPI's Kafka bindings, https://github.com/asyncapi/bindings/tree/master/kafka."""

_DESCRIPTION: Final = """\
The messages that Segue's services exchange over Kafka, and that other services can consume.

Every message is a CloudEvent in Kafka's binary mode: its attributes are headers, its body is JSON. The key is always
the job's id, so that the messages about a job are in order. Changes within a major version are additive: ignore fields
and types that you do not know. `segue.jobs` is intended for consumers outside of Segue."""


def asyncapi_document(version: str) -> Json:
    """The document; `version` is the version of the contracts."""
    return {
        "asyncapi": "3.1.0",
        "id": "urn:segue:messages",
        "info": {"title": "Segue", "version": version, "description": _DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": _operations(),
        "components": {
            "messages": {name: _message(kind) for name, kind in MESSAGE_TYPES.items()},
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
            "schemas": _schemas(),
        },
    }


def _channel(topic: Topic) -> Json:
    config = topic.config_for(replication=1)
    return {
        "address": topic.name,
        "description": topic.purpose[:1].upper() + topic.purpose[1:] + ".",
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.TYPE}"} for kind in topic.carries},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": PARTITIONS,
                "topicConfiguration": {
                    "cleanup.policy": [config["cleanup.policy"]],
                    "retention.ms": int(config["retention.ms"]),
                    "max.message.bytes": int(config["max.message.bytes"]),
                },
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _operations() -> Json:
    operations: Json = {}
    for service in SERVICES:
        for topic in TOPICS:
            if service in topic.producers:
                operations[f"{service}.sends.{topic.name}"] = _operation("send", service, topic)
            if service in topic.groups or service in topic.tails:
                operations[f"{service}.receives.{topic.name}"] = _operation("receive", service, topic)
    return operations


def _operation(action: str, service: ServiceName, topic: Topic) -> Json:
    operation: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"{service} {action}s {topic.purpose}.",
        "tags": [{"name": service}],
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{kind.__name__}"} for kind in topic.carries],
    }
    if action == "receive" and service in topic.groups:
        group = {"type": "string", "enum": [service]}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": KAFKA_BINDING}}
    return operation


def _message(kind: type[Message]) -> Json:
    return {
        "name": kind.TYPE,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip().splitlines()[0],
        "contentType": CONTENT_TYPE,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "format": "uuid", "description": "The job's id."},
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _headers() -> Json:
    def text(description: str, **more: object) -> Json:
        return {"type": "string", "description": description, **more}

    properties = {
        "ce_specversion": text("The version of CloudEvents.", const=SPEC_VERSION),
        "ce_id": text("The id of the message; a repeat has the same one.", format="uuid"),
        "ce_type": text("The message's type, with its major version.", examples=["segue.job.succeeded.v1"]),
        "ce_source": text("The service that published it.", format="uri-reference", examples=["/segue/orchestrator"]),
        "ce_time": text("When it happened.", format="date-time"),
        "ce_subject": text("The id of the attempt or the job."),
        "content-type": text("The body's type.", const=CONTENT_TYPE),
        "traceparent": text("W3C Trace Context."),
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [each for each in properties if each != "traceparent"],
    }


def _schemas() -> Json:
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [(kind, "validation") for kind in MESSAGE_TYPES.values()]
    _, document = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
    return {name: _without_discriminators(schema) for name, schema in document["$defs"].items()}


def _without_discriminators(schema: Any) -> Any:
    # AsyncAPI defines `discriminator` differently from OpenAPI; the constants in the branches have the same effect.
    if isinstance(schema, dict):
        return {key: _without_discriminators(value) for key, value in schema.items() if key != "discriminator"}
    if isinstance(schema, list):
        return [_without_discriminators(value) for value in schema]
    return schema
