//! Questions as they are written in case files: the contract's records, with a default for everything that is left out.

use super::Facts;
use crate::{
    Context, Descriptor, GrantType, ImageConfig, Manifest, Operation, Outcome, Platform, Request, Scope, SubjectKind,
    Target, TokenRequest, Usage,
};
use serde::de::{Deserialize, Deserializer, Error};
use std::collections::BTreeMap;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const SIZE: u64 = 1024;

/// A record of a case file, and how it becomes the contract's.
macro_rules! record {
    ($(#[$about:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct $name { $(pub $field: Option<$type>,)* }
    };
}

record!(Who { kind: Name<SubjectKind>, id: String, project: String, issuer: String, claims_json: Json, });
record!(Asker {
    request_id: String,
    project: String,
    now_ms: u64,
    client_ip: String,
    user_agent: String,
    subject: Who,
});
record!(What { repository: String, tags: Vec<String>, digest: String, });
record!(Ask {
    operation: Name<Operation>,
    method: String,
    target: What,
    headers: Pairs,
    length: u64,
});
record!(Token {
    service: String,
    grant_type: Name<GrantType>,
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

/// A case of one of the contract's enumerations, by its name.
#[derive(Clone, Debug)]
pub struct Name<T>(pub T);

/// Pairs: a mapping, or a list of pairs where one name comes twice.
#[derive(Clone, Debug, Default)]
pub struct Pairs(pub Vec<(String, String)>);

/// JSON in a string, or written out.
#[derive(Clone, Debug)]
pub struct Json(pub String);

/// A scope: `repository:acme/app:pull,push`, or its three fields.
#[derive(Clone, Debug)]
pub struct AnyScope(pub Scope);

/// An image with layers of these sizes.
pub fn image(layers: &[u64]) -> Manifest {
    let layer = |&size: &u64| Part { size: Some(size), ..Part::default() };
    Document { layers: Some(layers.iter().map(layer).collect()), ..Document::default() }.into()
}

impl Asker {
    /// The test's usual asker, with what is written changed.
    pub fn context(self) -> Context {
        let mut context = super::context();
        let replace = |place: &mut String, with: Option<String>| {
            if let Some(with) = with {
                *place = with;
            }
        };
        if let Some(who) = self.subject {
            let subject = &mut context.subject;
            let kind = who.kind.map_or(SubjectKind::Robot, |kind| kind.0);
            if kind != SubjectKind::Robot {
                (subject.id, subject.project) = (String::new(), None);
            }
            subject.kind = kind;
            replace(&mut subject.id, who.id);
            subject.project = who.project.or(subject.project.take());
            subject.issuer = who.issuer;
            replace(&mut subject.claims_json, who.claims_json.map(|json| json.0));
        }
        replace(&mut context.request_id, self.request_id);
        replace(&mut context.project, self.project);
        replace(&mut context.client_ip, self.client_ip);
        replace(&mut context.user_agent, self.user_agent);
        context.now_ms = self.now_ms.unwrap_or(context.now_ms);
        context
    }
}

impl From<What> for Target {
    fn from(what: What) -> Target {
        let tags =
            what.tags.unwrap_or_else(|| if what.digest.is_some() { Vec::new() } else { vec!["latest".to_owned()] });
        Target { repository: what.repository.unwrap_or_else(|| "acme/app".to_owned()), tags, digest: what.digest }
    }
}

impl From<Ask> for Request {
    fn from(ask: Ask) -> Request {
        let operation = ask.operation.map_or(Operation::ManifestPull, |name| name.0);
        let method = match operation {
            Operation::ManifestHead | Operation::BlobHead => "HEAD",
            Operation::UploadStart | Operation::Mount => "POST",
            Operation::UploadChunk => "PATCH",
            Operation::UploadFinish | Operation::ManifestPush => "PUT",
            delete if delete.is_delete() => "DELETE",
            _ => "GET",
        };
        let nowhere = matches!(operation, Operation::Ping | Operation::Catalog);
        let target = ask.target.or_else(|| (!nowhere).then(What::default)).map(Target::from);
        let headers = ask.headers.unwrap_or_default().0;
        Request {
            operation,
            method: ask.method.unwrap_or_else(|| method.to_owned()),
            target,
            headers,
            length: ask.length,
        }
    }
}

impl From<Token> for TokenRequest {
    fn from(token: Token) -> TokenRequest {
        let scopes = |all: Vec<AnyScope>| all.into_iter().map(|scope| scope.0).collect::<Vec<_>>();
        let requested = scopes(token.requested.unwrap_or_default());
        TokenRequest {
            service: token.service.unwrap_or_else(|| "registry".to_owned()),
            grant_type: token.grant_type.map_or(GrantType::Basic, |name| name.0),
            offline: token.offline.unwrap_or_default(),
            granted: token.granted.map_or_else(|| requested.clone(), scopes),
            requested,
            default_ttl_s: token.default_ttl_s.unwrap_or(300),
            max_ttl_s: token.max_ttl_s.unwrap_or(3600),
        }
    }
}

impl From<System> for Platform {
    fn from(system: System) -> Platform {
        let text = |text: Option<String>, or: &str| text.unwrap_or_else(|| or.to_owned());
        Platform {
            os: text(system.os, "linux"),
            architecture: text(system.architecture, "amd64"),
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
    fn from(document: Document) -> Manifest {
        let children = descriptors(document.children, IMAGE);
        let index =
            !children.is_empty() || document.media_type.as_deref().is_some_and(|t| t.ends_with("index.v1+json"));
        let config = document.config.or_else(|| (!index).then(Part::default));
        Manifest {
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
    fn from(came: Came) -> Outcome {
        Outcome {
            status: came.status.unwrap_or(200),
            bytes_out: came.bytes_out.unwrap_or_default(),
            duration_us: came.duration_us.unwrap_or_default(),
        }
    }
}

impl From<Known> for Facts {
    fn from(known: Known) -> Facts {
        let config = |config: Configuration| ImageConfig {
            platform: config.platform.unwrap_or_default().into(),
            created_ms: config.created_ms,
            user: config.user,
            labels: config.labels.unwrap_or_default().0,
        };
        let usage =
            |used: Used| Usage { used_bytes: used.used_bytes.unwrap_or_default(), quota_bytes: used.quota_bytes };
        Facts {
            tag_digest: known.tag_digest.unwrap_or_default(),
            tags_of_digest: known.tags_of_digest.unwrap_or_default(),
            image_config: known.image_config.map(config),
            usage: known.usage.map(usage),
            pushed_at_ms: known.pushed_at_ms.unwrap_or_default(),
            referrers: descriptors(known.referrers, IMAGE),
            verified_signers: known.verified_signers.unwrap_or_default(),
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

macro_rules! by_name {
    ($($type:ty),+) => {$(
        impl<'de> Deserialize<'de> for Name<$type> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                let known = <$type>::from_name(&name).map(Name);
                known.ok_or_else(|| D::Error::custom(format!("{name} is no {}", stringify!($type))))
            }
        }
    )+};
}

by_name!(SubjectKind, GrantType, Operation, crate::Hook);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Mapping(BTreeMap<String, String>),
            List(Vec<(String, String)>),
        }
        Ok(Pairs(match Form::deserialize(deserializer)? {
            Form::Mapping(mapping) => mapping.into_iter().collect(),
            Form::List(list) => list,
        }))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Json(match serde_json::Value::deserialize(deserializer)? {
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
        Ok(AnyScope(match Form::deserialize(deserializer)? {
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
