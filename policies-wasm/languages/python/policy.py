"""Which base images an image may be built on, as its annotation `org.opencontainers.image.base.name` says."""

import json
from fnmatch import fnmatchcase
from typing import List, Optional, Tuple

import componentize_py_types as result
from wit_world import exports
from wit_world.imports import facts
from wit_world.imports.types import (
    Context,
    Decision_Abstain,
    Decision_Deny,
    Denial,
    Fact,
    Hook,
    Info,
    Manifest,
    Outcome,
    Request,
    Target,
    TokenDecision_Abstain,
    TokenRequest,
)

NAME = "org.opencontainers.image.base.name"

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["allow"],
    "properties": {
        "allow": {
            "description": "patterns of base images: registry.example/library/debian:*",
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "minLength": 1},
        }
    },
}

allowed: Optional[List[str]] = None


def read(settings: str) -> Tuple[List[str], List[str]]:
    """The patterns, and what is wrong with them."""
    try:
        given = json.loads(settings.strip() or "{}")
    except ValueError as error:
        return [], [f"settings are no JSON: {error}"]
    if not isinstance(given, dict):
        return [], ["settings are no object"]
    faults = [f"{key}: unknown field" for key in given if key != "allow"]
    patterns = given.get("allow")
    if not isinstance(patterns, list) or not patterns:
        return [], faults + ["allow: name at least one base image"]
    for number, pattern in enumerate(patterns):
        if not isinstance(pattern, str) or not pattern:
            faults.append(f"allow[{number}]: has to be a text")
        elif pattern.count("*") > 3:
            # Each further one can make matching slower.
            faults.append(f"allow[{number}]: at most three *")
    return patterns, faults


def deny(message: str) -> Decision_Deny:
    return Decision_Deny(Denial(message=message, code=None, detail_json=None))


class Guest(exports.Guest):
    def describe(self) -> Info:
        return Info(
            name="base-images",
            version="0.1.0",
            hooks=[Hook.MANIFEST_PUSH],
            wants=[Fact.IMAGE_CONFIG],
            metrics=[],
            settings_schema=json.dumps(SCHEMA),
        )

    def validate_settings(self, settings_json: str) -> None:
        """A result's error is raised."""
        _, faults = read(settings_json)
        if faults:
            raise result.Err(faults)

    def configure(self, settings_json: str) -> None:
        global allowed
        patterns, faults = read(settings_json)
        if faults:
            raise result.Err("; ".join(faults))
        allowed = patterns

    def on_manifest_push(self, context: Context, target: Target, manifest: Manifest):
        if allowed is None:
            return deny("base-images was asked before it was configured")
        # An index refers to images that were judged when they came.
        if manifest.children:
            return Decision_Abstain()
        config = facts.get_image_config()
        pairs = manifest.annotations + (config.labels if config else [])
        bases = [value for name, value in pairs if name == NAME and value]
        if not bases:
            return deny(f"no base image is named; set the annotation or label {NAME}")
        for base in bases:
            if not any(fnmatchcase(base, pattern) for pattern in allowed):
                return deny(f"base image {base} is not allowed, allowed are {', '.join(allowed)}")
        return Decision_Abstain()

    def on_token(self, context: Context, request: TokenRequest):
        return TokenDecision_Abstain()

    def on_request(self, context: Context, request: Request):
        return Decision_Abstain()

    def on_pull(self, context: Context, target: Target, manifest: Optional[Manifest]):
        return Decision_Abstain()

    def on_response(self, context: Context, request: Request, outcome: Outcome) -> None:
        pass
