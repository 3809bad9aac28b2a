//! The claims of tokens as they stand on the wire, and scopes in Distribution's form.

use crate::ProjectId;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_oci::Scope;
use portcullis_oci::scope::{Actions, ScopeName};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// What is looked at of a token's header. A key that it carries (`jwk`, `x5c`, `jku`) is not.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
    /// RFC 7515, 4.1.11: who does not understand what is critical has to refuse, and nothing of it is understood here.
    #[serde(default, deserialize_with = "is_present")]
    pub(super) crit: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AccessClaims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: Audience,
    pub(super) exp: i64,
    pub(super) nbf: i64,
    pub(super) iat: i64,
    pub(super) jti: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "objects")]
    pub(super) access: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) projects: Option<Projects>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope_set: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) robot: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RefreshClaims {
    pub(super) iss: String,
    pub(super) aud: Audience,
    pub(super) iat: i64,
    pub(super) jti: Box<str>,
    pub(super) robot: Box<str>,
    pub(super) secret: Box<str>,
}

/// What has to be an object: readers that are derived take an array of the members, too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

fn objects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Entry>>, D::Error> {
    let entries = Option::<Vec<Object<Entry>>>::deserialize(deserializer)?;
    Ok(entries.map(|entries| entries.into_iter().map(|Object(entry)| entry).collect()))
}

/// RFC 7519, 4.1.3: one text, or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// One element of the `access` claim (Distribution's token specification).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl From<&Scope> for Entry {
    fn from(scope: &Scope) -> Self {
        let (kind, name, actions) = match scope {
            Scope::Catalog => ("registry", "catalog", vec!["*".to_owned()]),
            Scope::Repository { name, actions } => {
                ("repository", name.as_str(), actions.names().map(str::to_owned).collect())
            }
        };
        Self { kind: kind.to_owned(), name: name.to_owned(), actions }
    }
}

impl Entry {
    /// The scope that it stands for; `None` for what this version would not have written.
    fn to_scope(&self) -> Option<Scope> {
        match (self.kind.as_str(), self.name.as_str()) {
            ("registry", "catalog") if self.actions == ["*"] => Some(Scope::Catalog),
            ("repository", name) => {
                let actions = Actions::parse_strict(&self.actions.join(","))?;
                Some(Scope::Repository { name: ScopeName::parse(name)?, actions })
            }
            _ => None,
        }
    }
}

pub(super) fn entries(scopes: &[Scope]) -> Vec<Entry> {
    scopes.iter().map(Entry::from).collect()
}

pub(super) fn scopes(entries: &[Entry]) -> Option<Vec<Scope>> {
    entries.iter().map(Entry::to_scope).collect()
}

/// (project name, project id), on the wire an object.
pub(super) struct Projects(pub(super) Vec<(Box<str>, ProjectId)>);

impl Serialize for Projects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, id)| (name, &id.0)))
    }
}

impl<'de> Deserialize<'de> for Projects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Projects;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of project names and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Projects, A::Error> {
                let mut pairs: Vec<(Box<str>, ProjectId)> = Vec::new();
                while let Some((name, id)) = map.next_entry::<Box<str>, Box<str>>()? {
                    if pairs.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a project is named twice"));
                    }
                    pairs.push((name, ProjectId(id)));
                }
                Ok(Projects(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Scopes and projects as one text: what a stored set holds, and the measure of what a token can carry itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    access: Vec<Entry>,
    projects: Projects,
}

pub(super) fn to_json(scopes: &[Scope], projects: &[(Box<str>, ProjectId)]) -> String {
    let contents = Contents { access: entries(scopes), projects: Projects(projects.to_vec()) };
    serde_json::to_string(&contents).expect("texts in lists and maps are always JSON")
}

pub(super) fn from_json(text: &str) -> Option<(Vec<Scope>, Projects)> {
    let contents: Contents = serde_json::from_str(text).ok()?;
    Some((scopes(&contents.access)?, contents.projects))
}

/// Unpadded base64url of the SHA-256.
pub(super) fn digest_of(text: &str) -> Box<str> {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())).into()
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}
