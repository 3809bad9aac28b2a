//! A host for native unit tests: it answers with the facts that a test sets, and keeps what a policy logs and counts.
//!
//! Everything belongs to the thread that runs the test, so that tests do not see each other's.

mod case;
mod question;

pub use case::{CaseFile, Expectation, Verdict, check_cases};

use crate::host::Level;
use crate::{Context, Descriptor, ImageConfig, Manifest, Subject, SubjectKind, Target, Usage};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What the host knows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The digests of tags.
    pub tag_digest: BTreeMap<String, String>,
    /// The tags of digests; where a digest is not named, those of `tag_digest` that point to it.
    pub tags_of_digest: BTreeMap<String, Vec<String>>,
    /// The image's configuration.
    pub image_config: Option<ImageConfig>,
    /// The project's usage.
    pub usage: Option<Usage>,
    /// When digests were pushed, in milliseconds since 1970.
    pub pushed_at_ms: BTreeMap<String, u64>,
    /// What refers to the image.
    pub referrers: Vec<Descriptor>,
    /// Who signed it.
    pub verified_signers: Vec<String>,
}

/// What a policy did to its host.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The lines of the log.
    pub logged: Vec<(Level, String)>,
    /// The counters.
    pub counted: BTreeMap<String, u64>,
}

thread_local! {
    static FACTS: RefCell<Facts> = RefCell::default();
    static RAW: RefCell<Vec<u8>> = RefCell::default();
    static TRACES: RefCell<Traces> = RefCell::default();
}

/// Sets what the host knows from now on, in this thread.
pub fn set_facts(facts: Facts) {
    FACTS.with(|known| *known.borrow_mut() = facts);
}

/// Sets the bytes that [`host::manifest_read`](crate::host::manifest_read) reads from.
pub fn set_raw_manifest(bytes: Vec<u8>) {
    RAW.with(|raw| *raw.borrow_mut() = bytes);
}

/// Takes what was logged and counted since the last time.
pub fn take_traces() -> Traces {
    TRACES.with(RefCell::take)
}

/// The robot `acme+ci` of the project `acme`, on the first of January 2026 at noon UTC, from 192.0.2.1.
pub fn context() -> Context {
    Context {
        request_id: "case".to_owned(),
        project: "acme".to_owned(),
        now_ms: 1_767_268_800_000,
        client_ip: "192.0.2.1".to_owned(),
        user_agent: "case/1".to_owned(),
        subject: Subject {
            kind: SubjectKind::Robot,
            id: "acme+ci".to_owned(),
            project: Some("acme".to_owned()),
            issuer: None,
            claims_json: "{}".to_owned(),
        },
    }
}

/// A tag of a repository.
pub fn target(repository: &str, tag: &str) -> Target {
    Target { repository: repository.to_owned(), tags: vec![tag.to_owned()], digest: None }
}

/// An image with layers of these sizes in bytes.
pub fn image(layers: &[u64]) -> Manifest {
    question::image(layers)
}

/// The contract's `facts`.
pub(crate) mod facts {
    use super::{Descriptor, FACTS, Facts, ImageConfig, Usage};

    fn known<T>(ask: impl FnOnce(&Facts) -> T) -> T {
        FACTS.with(|known| ask(&known.borrow()))
    }

    pub fn tag_digest(tag: &str) -> Option<String> {
        known(|facts| facts.tag_digest.get(tag).cloned())
    }

    pub fn tags_of_digest(digest: &str) -> Vec<String> {
        let by_tag = |facts: &Facts| {
            let tags = facts.tag_digest.iter().filter(|(_, of)| *of == digest);
            tags.map(|(tag, _)| tag.clone()).collect()
        };
        known(|facts| facts.tags_of_digest.get(digest).cloned().unwrap_or_else(|| by_tag(facts)))
    }

    pub fn get_image_config() -> Option<ImageConfig> {
        known(|facts| facts.image_config.clone())
    }

    pub fn get_usage() -> Usage {
        known(|facts| facts.usage).unwrap_or(Usage { used_bytes: 0, quota_bytes: None })
    }

    pub fn pushed_at_ms(digest: &str) -> Option<u64> {
        known(|facts| facts.pushed_at_ms.get(digest).copied())
    }

    pub fn referrers() -> Vec<Descriptor> {
        known(|facts| facts.referrers.clone())
    }

    pub fn verified_signers() -> Vec<String> {
        known(|facts| facts.verified_signers.clone())
    }
}

/// The contract's `host`.
pub(crate) mod host {
    use super::{Level, RAW, TRACES};

    pub fn log(level: Level, message: &str) {
        TRACES.with(|traces| traces.borrow_mut().logged.push((level, message.to_owned())));
    }

    pub fn count(metric: &str, by: u64) {
        TRACES.with(|traces| {
            let mut traces = traces.borrow_mut();
            let counter = traces.counted.entry(metric.to_owned()).or_default();
            *counter = counter.saturating_add(by);
        });
    }

    pub fn manifest_read(offset: u64, len: u32) -> Vec<u8> {
        let (offset, len) = (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(len).unwrap_or(usize::MAX));
        RAW.with(|raw| raw.borrow().iter().skip(offset).take(len).copied().collect())
    }
}
