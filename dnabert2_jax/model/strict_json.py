"""JSON from elsewhere: bytes in, one object out whose meaning cannot depend on who reads it."""

import json
from typing import Any


class JsonError(ValueError):
    """Why some bytes are no acceptable JSON object: the rest of a sentence that begins with the file."""


def parse_object(data: bytes) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
      JsonError: it is not UTF-8, not JSON or not an object, is nested too deeply, or names a key twice.
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except JsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonError(f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise JsonError("is not a JSON object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        # Half a surrogate pair can be written in JSON, and is no text.
        key.encode()
        if isinstance(value, str):
            value.encode()
        if key in found:
            raise JsonError(f"names {key[:80]!r} twice")
        found[key] = value
    return found
