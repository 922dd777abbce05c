"""What schemathesis cannot know: how NDJSON is sent, and that a bulk addition may refuse an item and still succeed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi import checks

_found_again = checks.ensure_resource_availability


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: object, value: object) -> bytes:
    """A line as it is, or one of JSON."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def _results(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of the items: of all in JSON, of one in a line of NDJSON."""
    return answer.get("results", [answer])


@schemathesis.check
def stored_resource_availability(
    ctx: CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """Schemathesis's own check, in its place, but an item that was refused was never there to be found."""
    parent = ctx.internals.find_parent(case_id=case.id)
    if parent is not None and (parent.method, parent.path) == ("POST", "/v1/galleries/{name}/items"):
        added = ctx.internals.find_response(case_id=parent.id)
        if added is not None and added.status_code == 200 and case.path == "/v1/galleries/{name}/items/{id}":
            results = [result for line in added.text.splitlines() for result in _results(json.loads(line))]
            stored = [result["id"] for result in results if result["status"] == "stored"]
            if unquote(str(case.path_parameters["id"])) not in stored:
                return None
    return _found_again(ctx, response, case)
