"""What {{name}} refuses, in one sentence."""

import json
from typing import List, Optional, Tuple

import componentize_py_types as result
from wit_world import exports
from wit_world.imports.types import (
    Context,
    Decision_Abstain,
    Decision_Deny,
    Denial,
    Hook,
    Info,
    Manifest,
    Outcome,
    Request,
    Target,
    TokenDecision_Abstain,
    TokenRequest,
)

# What the gateway looked up, where `wants` names it:
# from wit_world.imports import facts

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["max-layers"],
    "properties": {"max-layers": {"description": "most layers of an image", "type": "integer", "minimum": 1}},
}

limit: Optional[int] = None


def read(settings: str) -> Tuple[int, List[str]]:
    """The limit, and what is wrong with the settings."""
    try:
        given = json.loads(settings.strip() or "{}")
    except ValueError as error:
        return 0, [f"settings are no JSON: {error}"]
    found = given.get("max-layers") if isinstance(given, dict) else None
    # `True` is an int, too.
    if type(found) is not int or found < 1:
        return 0, ["max-layers: has to be at least 1"]
    return found, []


def deny(message: str) -> Decision_Deny:
    """It reaches the user's terminal: say what was found, and what is allowed."""
    return Decision_Deny(Denial(message=message, code=None, detail_json=None))


class Guest(exports.Guest):
    def describe(self) -> Info:
        return Info(
            name="{{name}}",
            version="0.1.0",
            hooks=[Hook.MANIFEST_PUSH],
            wants=[],
            metrics=[],
            settings_schema=json.dumps(SCHEMA),
        )

    def validate_settings(self, settings_json: str) -> None:
        """A result's error is raised: here a list of texts, in `configure` one text."""
        _, faults = read(settings_json)
        if faults:
            raise result.Err(faults)

    def configure(self, settings_json: str) -> None:
        global limit
        given, faults = read(settings_json)
        if faults:
            raise result.Err("; ".join(faults))
        limit = given

    def on_manifest_push(self, context: Context, target: Target, manifest: Manifest):
        if limit is None:
            return deny("{{name}} was asked before it was configured")
        found = len(manifest.layers)
        if found > limit:
            return deny(f"image has {found} layers, limit {limit}")
        return Decision_Abstain()

    # Never called, as `hooks` does not name them, but they have to be there.

    def on_token(self, context: Context, request: TokenRequest):
        return TokenDecision_Abstain()

    def on_request(self, context: Context, request: Request):
        return Decision_Abstain()

    def on_pull(self, context: Context, target: Target, manifest: Optional[Manifest]):
        return Decision_Abstain()

    def on_response(self, context: Context, request: Request, outcome: Outcome) -> None:
        pass
