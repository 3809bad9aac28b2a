//! The chain: every record's place is bound to all before it. Anybody can compute the links, and the deployment's key alone can
//! vouch for them.

use super::checkpoint::Checkpoint;
use super::{Entry, Note, Record};
use crate::key::{MasterKey, Purpose};
use crate::{Random, Timestamp};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What all records up to one come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// Before a node's first record.
    pub fn first(node: &str) -> Self {
        hashed(&[b"portcullis audit chain 1", node.as_bytes()])
    }

    /// After one more record.
    #[must_use]
    pub fn then(self, sequence: u64, record: &Record) -> Self {
        hashed(&[&self.0, &sequence.to_be_bytes(), &record.canonical()])
    }

    /// Base64url.
    pub fn text(self) -> String {
        encode(&self.0)
    }

    /// From its text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string())?;
        bytes.try_into().map(Self).map_err(|_| "a link has 32 bytes".to_owned())
    }
}

fn hashed(parts: &[&[u8]]) -> Link {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    Link(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How far a node's chain has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The node.
    pub node: Box<str>,
    /// Records in the chain, forgotten ones included.
    pub count: u64,
    /// What they come to.
    pub link: Link,
    /// Made with the key, over all of this: an older head is not left lying around. Base64url.
    pub seal: Box<str>,
    /// Where it begins, once its first records were forgotten.
    pub base: Option<Checkpoint>,
}

/// What vouches for records and checkpoints.
pub struct AuditKeys {
    mac: hmac::Key,
    signing: Ed25519KeyPair,
}

/// What tells whether somebody vouched for something. Without the key to the chain only checkpoints can be checked, and what lies
/// between them.
pub struct Witness {
    mac: Option<hmac::Key>,
    public: Box<[u8]>,
}

impl AuditKeys {
    /// The deployment's.
    pub fn new(master: &MasterKey) -> Self {
        let seed = master.mac_key_bytes(Purpose::AuditCheckpoints);
        let signing = Ed25519KeyPair::from_seed_unchecked(seed.as_slice());
        Self { mac: master.mac_key(Purpose::AuditChain), signing: signing.expect("any 32 bytes are a seed of Ed25519") }
    }

    /// The public key of checkpoints, base64url: what an auditor needs.
    pub fn public_key(&self) -> String {
        encode(self.signing.public_key().as_ref())
    }

    /// Checks with the chain's own key.
    pub fn witness(&self) -> Witness {
        Witness { mac: Some(self.mac.clone()), public: self.signing.public_key().as_ref().into() }
    }

    /// Writes a note down at a node, sealed, without a place in its chain.
    pub fn seal(&self, note: Note, node: &str, at: Timestamp, random: Random<'_>) -> Entry {
        let record = Record::new(note, node, at, random);
        let mac = self.sign(&sealed_bytes(&record));
        Entry { sequence: None, record, mac }
    }

    /// A record as if it were written down now.
    #[cfg(test)]
    pub(super) fn sealed_again(&self, record: Record) -> Entry {
        let mac = self.sign(&sealed_bytes(&record));
        Entry { sequence: None, record, mac }
    }

    /// Gives waiting records their places. One that was changed while it waited keeps the seal that it has, so that it is found.
    pub fn chain(&self, node: &str, before: Option<&Head>, waiting: Vec<Entry>) -> (Vec<Entry>, Head) {
        let witness = self.witness();
        let mut count = before.map_or(0, |head| head.count);
        let mut link = before.map_or_else(|| Link::first(node), |head| head.link);
        let mut chained = Vec::with_capacity(waiting.len());
        for entry in waiting {
            count = count.saturating_add(1);
            link = link.then(count, &entry.record);
            let mac = if witness.has_sealed(&entry) { self.sign(&linked_bytes(link)) } else { entry.mac };
            chained.push(Entry { sequence: Some(count), record: entry.record, mac });
        }
        (chained, self.head(node, count, link, before.and_then(|head| head.base.clone())))
    }

    /// A sealed head.
    pub fn head(&self, node: &str, count: u64, link: Link, base: Option<Checkpoint>) -> Head {
        let seal = self.sign(&head_bytes(node, count, link));
        Head { node: node.into(), count, link, seal, base }
    }

    /// Signs how far a chain has got. Only a base may stand in the place of the records before it.
    pub fn checkpoint(&self, node: &str, count: u64, link: Link, at: Timestamp, is_base: bool) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            node: node.into(),
            count,
            link,
            at: Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at),
            is_base,
            key: self.public_key().into(),
            signature: Box::default(),
        };
        checkpoint.signature = encode(self.signing.sign(&checkpoint.signed_bytes()).as_ref()).into();
        checkpoint
    }

    fn sign(&self, bytes: &[u8]) -> Box<str> {
        encode(hmac::sign(&self.mac, bytes).as_ref()).into()
    }
}

impl Witness {
    /// Checks with the public key of checkpoints alone.
    pub fn of_public_key(text: &str) -> Result<Self, String> {
        let public = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|error| error.to_string())?;
        if public.len() != 32 {
            return Err("a public key has 32 bytes".to_owned());
        }
        Ok(Self { mac: None, public: public.into() })
    }

    /// Whether it has the key to the chain.
    pub fn has_key(&self) -> bool {
        self.mac.is_some()
    }

    /// Whether a waiting record is as it was written down.
    pub fn has_sealed(&self, entry: &Entry) -> bool {
        self.is_signed(&sealed_bytes(&entry.record), &entry.mac)
    }

    /// Whether a record stands where it was put.
    pub(super) fn has_linked(&self, link: Link, mac: &str) -> bool {
        self.is_signed(&linked_bytes(link), mac)
    }

    /// Whether a head is as it was written down.
    pub fn has_head(&self, head: &Head) -> bool {
        self.is_signed(&head_bytes(&head.node, head.count, head.link), &head.seal)
    }

    /// Whether a checkpoint is this deployment's.
    pub fn has_checkpoint(&self, checkpoint: &Checkpoint) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(&*checkpoint.signature) else { return false };
        UnparsedPublicKey::new(&ED25519, &self.public).verify(&checkpoint.signed_bytes(), &signature).is_ok()
    }

    /// Without the key nobody can tell, and nothing is held against it.
    fn is_signed(&self, bytes: &[u8], mac: &str) -> bool {
        let Some(key) = &self.mac else { return true };
        URL_SAFE_NO_PAD.decode(mac).is_ok_and(|mac| hmac::verify(key, bytes, &mac).is_ok())
    }
}

fn sealed_bytes(record: &Record) -> Vec<u8> {
    [b"waiting ".as_slice(), &record.canonical()].concat()
}

fn linked_bytes(link: Link) -> Vec<u8> {
    [b"link ".as_slice(), &link.0].concat()
}

fn head_bytes(node: &str, count: u64, link: Link) -> Vec<u8> {
    [b"head ".as_slice(), &count.to_be_bytes(), &link.0, node.as_bytes()].concat()
}
