//! Questions as they are written in case files: the contract's records, with a default for everything that is left out. The
//! SDK has the same reader for native tests (`policies-wasm/sdk/src/testing/question.rs`); the two must agree.

use portcullis_policy::question::{
    Context, Descriptor, Facts, GrantType, ImageConfig, Manifest, Operation, Outcome, Platform, Request, Scope,
    Subject, SubjectKind, Target, TokenRequest, Usage,
};
use serde::de::{Deserialize, Deserializer, Error};
use std::collections::BTreeMap;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Bytes of what has no size.
const SIZE: u64 = 1024;
/// The first of January 2026, noon UTC.
const NOW_MS: u64 = 1_767_268_800_000;

/// A record of a case file.
macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub(super) struct $name { $($field: Option<$type>,)* }
    };
}

record!(Who { kind: SubjectKind, id: String, project: String, issuer: String, claims_json: Json });
record!(Asker {
    request_id: String,
    project: String,
    now_ms: u64,
    client_ip: String,
    user_agent: String,
    subject: Who,
});
record!(What { repository: String, tags: Vec<String>, digest: String });
record!(Ask { operation: Operation, method: String, target: What, headers: Pairs, length: u64 });
record!(Token {
    service: String,
    grant_type: GrantType,
    offline: bool,
    requested: Vec<AnyScope>,
    granted: Vec<AnyScope>,
    default_ttl_s: u32,
    max_ttl_s: u32,
});
record!(System { os: String, architecture: String, cpu_variant: String });
record!(Part {
    media_type: String,
    digest: String,
    size: u64,
    stored_size: u64,
    artifact_type: String,
    platform: System,
    urls: Vec<String>,
    annotations: Pairs,
});
record!(Document {
    media_type: String,
    artifact_type: String,
    digest: String,
    size: u64,
    config: Part,
    layers: Vec<Part>,
    children: Vec<Part>,
    subject: Part,
    annotations: Pairs,
});
record!(Configuration { platform: System, created_ms: u64, user: String, labels: Pairs });
record!(Used { used_bytes: u64, quota_bytes: u64 });
record!(Came { status: u16, bytes_out: u64, duration_us: u64 });
record!(Known {
    tag_digest: BTreeMap<String, String>,
    tags_of_digest: BTreeMap<String, Vec<String>>,
    image_config: Configuration,
    usage: Used,
    pushed_at_ms: BTreeMap<String, u64>,
    referrers: Vec<Part>,
    verified_signers: Vec<String>,
});

/// Pairs: a mapping, or a list of pairs where one name comes twice.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

/// JSON in a string, or written out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Json(String);

/// A scope: `repository:acme/app:pull,push`, or its three fields.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct AnyScope(pub(super) Scope);

impl From<Asker> for Context {
    fn from(asker: Asker) -> Self {
        Self {
            request_id: asker.request_id.unwrap_or_else(|| "case".to_owned()),
            project: asker.project.unwrap_or_else(|| "acme".to_owned()),
            now_ms: asker.now_ms.unwrap_or(NOW_MS),
            client_ip: asker.client_ip.unwrap_or_else(|| "192.0.2.1".to_owned()),
            user_agent: asker.user_agent.unwrap_or_else(|| "case/1".to_owned()),
            subject: asker.subject.unwrap_or_default().into(),
        }
    }
}

/// The robot `acme+ci`; of another kind, nobody in particular.
impl From<Who> for Subject {
    fn from(who: Who) -> Self {
        let kind = who.kind.unwrap_or(SubjectKind::Robot);
        let (id, project) = match kind {
            SubjectKind::Robot => ("acme+ci", Some("acme".to_owned())),
            _ => ("", None),
        };
        Self {
            kind,
            id: who.id.unwrap_or_else(|| id.to_owned()),
            project: who.project.or(project),
            issuer: who.issuer,
            claims_json: who.claims_json.map_or_else(|| "{}".to_owned(), |json| json.0),
        }
    }
}

impl From<What> for Target {
    fn from(what: What) -> Self {
        let tags =
            what.tags.unwrap_or_else(|| if what.digest.is_some() { Vec::new() } else { vec!["latest".to_owned()] });
        Self { repository: what.repository.unwrap_or_else(|| "acme/app".to_owned()), tags, digest: what.digest }
    }
}

impl From<Ask> for Request {
    fn from(ask: Ask) -> Self {
        let operation = ask.operation.unwrap_or(Operation::ManifestPull);
        let nowhere = matches!(operation, Operation::Ping | Operation::Catalog);
        Self {
            operation,
            method: ask.method.unwrap_or_else(|| method(operation).to_owned()),
            target: ask.target.or_else(|| (!nowhere).then(What::default)).map(Target::from),
            headers: ask.headers.unwrap_or_default().0,
            length: ask.length,
        }
    }
}

fn method(operation: Operation) -> &'static str {
    match operation {
        Operation::ManifestHead | Operation::BlobHead => "HEAD",
        Operation::UploadStart | Operation::Mount => "POST",
        Operation::UploadChunk => "PATCH",
        Operation::UploadFinish | Operation::ManifestPush => "PUT",
        Operation::ManifestDelete | Operation::TagDelete | Operation::BlobDelete => "DELETE",
        Operation::Ping
        | Operation::Catalog
        | Operation::TagsList
        | Operation::Referrers
        | Operation::ManifestPull
        | Operation::BlobPull => "GET",
    }
}

impl From<Token> for TokenRequest {
    fn from(token: Token) -> Self {
        let scopes = |all: Vec<AnyScope>| all.into_iter().map(|scope| scope.0).collect::<Vec<_>>();
        let requested = scopes(token.requested.unwrap_or_default());
        Self {
            service: token.service.unwrap_or_else(|| "registry".to_owned()),
            grant_type: token.grant_type.unwrap_or(GrantType::Basic),
            offline: token.offline.unwrap_or_default(),
            granted: token.granted.map_or_else(|| requested.clone(), scopes),
            requested,
            default_ttl_s: token.default_ttl_s.unwrap_or(300),
            max_ttl_s: token.max_ttl_s.unwrap_or(3600),
        }
    }
}

impl From<System> for Platform {
    fn from(system: System) -> Self {
        Self {
            os: system.os.unwrap_or_else(|| "linux".to_owned()),
            architecture: system.architecture.unwrap_or_else(|| "amd64".to_owned()),
            cpu_variant: system.cpu_variant,
        }
    }
}

impl Part {
    fn descriptor(self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: self.media_type.unwrap_or_else(|| media_type.to_owned()),
            digest: self.digest.unwrap_or_else(|| digest('0')),
            size: self.size.unwrap_or(SIZE),
            stored_size: self.stored_size,
            artifact_type: self.artifact_type,
            platform: self.platform.map(Platform::from),
            urls: self.urls.unwrap_or_default(),
            annotations: self.annotations.unwrap_or_default().0,
        }
    }
}

impl From<Document> for Manifest {
    fn from(document: Document) -> Self {
        let children = descriptors(document.children, IMAGE);
        let named = document.media_type.as_deref().is_some_and(|media_type| media_type.ends_with("index.v1+json"));
        let index = named || !children.is_empty();
        let config = document.config.or_else(|| (!index).then(Part::default));
        Self {
            media_type: document.media_type.unwrap_or_else(|| if index { INDEX } else { IMAGE }.to_owned()),
            artifact_type: document.artifact_type,
            digest: document.digest.unwrap_or_else(|| digest('1')),
            size: document.size.unwrap_or(SIZE),
            config: config.map(|config| config.descriptor(CONFIG)),
            layers: descriptors(document.layers, LAYER),
            children,
            subject: document.subject.map(|subject| subject.descriptor(IMAGE)),
            annotations: document.annotations.unwrap_or_default().0,
        }
    }
}

impl From<Came> for Outcome {
    fn from(came: Came) -> Self {
        Self {
            status: came.status.unwrap_or(200),
            bytes_out: came.bytes_out.unwrap_or_default(),
            duration_us: came.duration_us.unwrap_or_default(),
        }
    }
}

/// Every fact is at hand, if only as "none".
impl From<Known> for Facts {
    fn from(known: Known) -> Self {
        let tag_digest = known.tag_digest.unwrap_or_default();
        let named = known.tags_of_digest.unwrap_or_default();
        let mut tags_of_digest: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tag, digest) in tag_digest.iter().filter(|(_, digest)| !named.contains_key(*digest)) {
            tags_of_digest.entry(digest.clone()).or_default().push(tag.clone());
        }
        tags_of_digest.extend(named);
        let config = |config: Configuration| ImageConfig {
            platform: config.platform.unwrap_or_default().into(),
            created_ms: config.created_ms,
            user: config.user,
            labels: config.labels.unwrap_or_default().0,
        };
        let usage = known.usage.unwrap_or_default();
        Self {
            tag_digest: Some(tag_digest),
            tags_of_digest: Some(tags_of_digest),
            image_config: known.image_config.map(config),
            usage: Some(Usage { used_bytes: usage.used_bytes.unwrap_or_default(), quota_bytes: usage.quota_bytes }),
            pushed_at: Some(known.pushed_at_ms.unwrap_or_default()),
            referrers: Some(descriptors(known.referrers, IMAGE)),
            verified_signers: Some(known.verified_signers.unwrap_or_default()),
            failed: Vec::new(),
        }
    }
}

fn descriptors(parts: Option<Vec<Part>>, media_type: &str) -> Vec<Descriptor> {
    parts.unwrap_or_default().into_iter().map(|part| part.descriptor(media_type)).collect()
}

/// A digest of one digit, over and over.
fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Mapping(BTreeMap<String, String>),
            List(Vec<(String, String)>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Mapping(mapping) => mapping.into_iter().collect(),
            Form::List(list) => list,
        }))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            written_out => written_out.to_string(),
        }))
    }
}

impl<'de> Deserialize<'de> for AnyScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Fields { kind: String, name: String, actions: Vec<String> },
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Fields { kind, name, actions } => Scope { kind, name, actions },
            Form::Text(text) => {
                let parts = text.split_once(':').and_then(|(kind, rest)| Some((kind, rest.rsplit_once(':')?)));
                let (kind, (name, actions)) = parts
                    .ok_or_else(|| D::Error::custom(format!("{text} is no scope such as repository:acme/app:pull")))?;
                let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
                Scope { kind: kind.to_owned(), name: name.to_owned(), actions }
            }
        }))
    }
}

#[cfg(test)]
mod tests;
