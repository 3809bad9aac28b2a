//! Questions as JSON, for policies whose rules are text: the contract's names with `_` for `-`, pairs as objects.

use crate::{
    Context, Descriptor, Fact, ImageConfig, Manifest, Outcome, Platform, Request, Scope, Target, TokenRequest, Usage,
    facts,
};
use serde_json::{Map, Value, json};

/// Who asks, from where and when. `subject.claims` is an object.
pub fn context(context: &Context) -> Value {
    let subject = &context.subject;
    json!({
        "request_id": context.request_id,
        "project": context.project,
        "now_ms": context.now_ms,
        "client_ip": context.client_ip,
        "user_agent": context.user_agent,
        "subject": {
            "kind": subject.kind.name(),
            "id": subject.id,
            "project": subject.project,
            "issuer": subject.issuer,
            "claims": claims(context),
        },
    })
}

/// The claims of who asks; an empty object where there are none.
pub fn claims(context: &Context) -> Value {
    let claims = serde_json::from_str(&context.subject.claims_json);
    claims.ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
}

/// A request for a token.
pub fn token_request(token: &TokenRequest) -> Value {
    json!({
        "service": token.service,
        "grant_type": token.grant_type.name(),
        "offline": token.offline,
        "requested": scopes(&token.requested),
        "granted": scopes(&token.granted),
        "default_ttl_s": token.default_ttl_s,
        "max_ttl_s": token.max_ttl_s,
    })
}

/// What is asked about.
pub fn target(target: &Target) -> Value {
    json!({ "repository": target.repository, "tags": target.tags, "digest": target.digest })
}

/// A request. Its target is beside it, not inside.
pub fn request(request: &Request) -> Value {
    json!({
        "operation": request.operation.name(),
        "method": request.method,
        "headers": pairs(&request.headers),
        "length": request.length,
    })
}

/// A manifest.
pub fn manifest(manifest: &Manifest) -> Value {
    json!({
        "media_type": manifest.media_type,
        "artifact_type": manifest.artifact_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "config": manifest.config.as_ref().map(descriptor),
        "layers": descriptors(&manifest.layers),
        "children": descriptors(&manifest.children),
        "subject": manifest.subject.as_ref().map(descriptor),
        "annotations": pairs(&manifest.annotations),
    })
}

/// What came of a request.
pub fn outcome(outcome: &Outcome) -> Value {
    json!({ "status": outcome.status, "bytes_out": outcome.bytes_out, "duration_us": outcome.duration_us })
}

/// What is known of a target, of the facts that are named: `tag_digest` is an object from its tags to digests or null,
/// `tags_of_digest` and `pushed_at_ms` are about its digest.
pub fn facts(wants: &[Fact], target: Option<&Target>, digest: Option<&str>) -> Value {
    let mut known = Map::new();
    let digest = digest.or(target.and_then(|target| target.digest.as_deref()));
    for want in wants {
        let (name, value) = match want {
            Fact::TagDigest => {
                let tags = target.map(|target| target.tags.as_slice()).unwrap_or_default();
                let digests = tags.iter().map(|tag| (tag.clone(), json!(facts::tag_digest(tag))));
                ("tag_digest", Value::Object(digests.collect()))
            }
            Fact::TagsOfDigest => ("tags_of_digest", json!(digest.map(facts::tags_of_digest).unwrap_or_default())),
            Fact::ImageConfig => ("image_config", facts::image_config().as_ref().map_or(Value::Null, image_config)),
            Fact::Usage => ("usage", usage(&facts::usage())),
            Fact::PushedAt => ("pushed_at_ms", json!(digest.and_then(facts::pushed_at_ms))),
            Fact::Referrers => ("referrers", descriptors(&facts::referrers())),
            Fact::VerifiedSigners => ("verified_signers", json!(facts::verified_signers())),
            // They stand in the descriptors.
            Fact::StoredSizes => continue,
        };
        known.insert(name.to_owned(), value);
    }
    Value::Object(known)
}

fn image_config(config: &ImageConfig) -> Value {
    json!({
        "platform": platform(&config.platform),
        "created_ms": config.created_ms,
        "user": config.user,
        "labels": pairs(&config.labels),
    })
}

fn usage(usage: &Usage) -> Value {
    json!({ "used_bytes": usage.used_bytes, "quota_bytes": usage.quota_bytes })
}

fn platform(platform: &Platform) -> Value {
    json!({ "os": platform.os, "architecture": platform.architecture, "cpu_variant": platform.cpu_variant })
}

fn descriptors(all: &[Descriptor]) -> Value {
    all.iter().map(descriptor).collect()
}

fn descriptor(one: &Descriptor) -> Value {
    json!({
        "media_type": one.media_type,
        "digest": one.digest,
        "size": one.size,
        "stored_size": one.stored_size,
        "artifact_type": one.artifact_type,
        "platform": one.platform.as_ref().map(platform),
        "urls": one.urls,
        "annotations": pairs(&one.annotations),
    })
}

fn scopes(scopes: &[Scope]) -> Value {
    scopes.iter().map(|s| json!({ "kind": s.kind, "name": s.name, "actions": s.actions })).collect()
}

fn pairs(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}
