"""Bodies of requests: JSON objects of a bounded size."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from xt.errors import ConfigError

_MOST_BYTES = 8 * 2**20


async def body_of(request: Request) -> dict[str, Any]:
    """What was sent.

    Raises:
        ConfigError: it is no JSON object, or too large.
    """
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"a change has at most {_MOST_BYTES:,} bytes")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a change is a JSON object ({error})") from None
    if not isinstance(body, dict) or not isinstance(body.get("filters", {}), dict):
        raise ConfigError("a change is a JSON object")
    return body
