//! Checkpoints: how far a chain has got, signed. Kept elsewhere, one shows what was taken away since, or written anew.

use super::chain::{Link, encode};
use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// How far a node's chain had got at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The node.
    pub node: Box<str>,
    /// Records in its chain.
    pub count: u64,
    /// What they come to.
    pub link: Link,
    /// When.
    pub at: Timestamp,
    /// It stands in the place of the records before it.
    pub is_base: bool,
    /// The public key that it says it was signed with: whoever checks it has one of his own.
    pub key: Box<str>,
    /// Ed25519, base64url.
    pub signature: Box<str>,
}

/// A text is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint: {0}")]
pub struct NoCheckpoint(pub(super) String);

/// One line of JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    r#type: String,
    node: Box<str>,
    count: u64,
    head: String,
    at: String,
    base: bool,
    key: Box<str>,
    signature: Box<str>,
}

impl Checkpoint {
    /// As one line of JSON, without its end.
    pub fn to_json(&self) -> String {
        let form = Form {
            r#type: "checkpoint".to_owned(),
            node: self.node.clone(),
            count: self.count,
            head: encode(&self.link.0),
            at: self.at.to_string(),
            base: self.is_base,
            key: self.key.clone(),
            signature: self.signature.clone(),
        };
        serde_json::to_string(&form).unwrap_or_default()
    }

    /// From such a line. Who signed it is for whoever has the key to say.
    pub fn parse(line: &str) -> Result<Self, NoCheckpoint> {
        let form: Form = serde_json::from_str(line).map_err(|error| NoCheckpoint(error.to_string()))?;
        if form.r#type != "checkpoint" {
            return Err(NoCheckpoint(format!("its type is {:?}", form.r#type)));
        }
        Ok(Self {
            node: form.node,
            count: form.count,
            link: Link::parse(&form.head).map_err(NoCheckpoint)?,
            at: form.at.parse().map_err(|error: jiff::Error| NoCheckpoint(error.to_string()))?,
            is_base: form.base,
            key: form.key,
            signature: form.signature,
        })
    }

    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        [
            b"portcullis audit checkpoint 1".as_slice(),
            &self.count.to_be_bytes(),
            &self.link.0,
            &self.at.as_millisecond().to_be_bytes(),
            &[u8::from(self.is_base)],
            self.node.as_bytes(),
        ]
        .concat()
    }
}
