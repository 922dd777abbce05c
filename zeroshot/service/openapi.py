"""Bodies that are read by hand, and problems, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from zeroshot.service.problems import Problem, title

PROBLEM: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route may answer with."""
    return {status: {"description": title(status), "content": PROBLEM} for status in sorted({*statuses, 401, 429})}


def body(
    model: type[BaseModel], others: Mapping[str, Any] | None = None, *, parameters: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Describe a body."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}, **(others or {})}
    described: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if parameters:
        described["parameters"] = list(parameters)
    return described


def document(app: FastAPI, models: Sequence[type[BaseModel]]) -> None:
    """Add to the OpenAPI document the schemas that only ``body`` mentions, and the ways to send a key."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        made = generate()
        components = made.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        bodies: list[type[BaseModel]] = [*models, Problem]
        for schema in bodies:
            own = schema.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas[schema.__name__] = own
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        made["security"] = [{}, {"bearer": []}, {"key": []}]
        return made

    app.openapi = openapi  # type: ignore[method-assign]
