//! What the host answers: log, counters, the raw manifest, and facts that were looked up before. Every answer is at hand, none
//! waits for anything.

use super::Guest;
use super::bindings::portcullis::policy::{facts, host};
use crate::error::Misuse;
use crate::question::{Descriptor, Fact, ImageConfig, Usage};
use serde::{Deserialize, Serialize};
use wasmtime::Result;

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names are the contract's
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A line that a guest logged: bounded, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub message: String,
}

/// Most bytes of the manifest in one read.
const MAX_READ: usize = 1 << 20;

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, message: String) -> Result<()> {
        self.meter.host_call()?;
        if self.said.log.len() >= self.log_lines {
            self.said.dropped = self.said.dropped.saturating_add(1);
            return Ok(());
        }
        let level = match level {
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        self.said.log.push(LogLine { level, message: crate::text::plain(&message, self.log_line_bytes) });
        Ok(())
    }

    /// A metric that was not declared is not counted.
    fn count(&mut self, metric: String, by: u64) -> Result<()> {
        self.meter.host_call()?;
        if let Some(position) = self.metrics.iter().position(|declared| *declared == metric) {
            self.said.counts.resize(self.metrics.len(), 0);
            if let Some(count) = self.said.counts.get_mut(position) {
                *count = count.saturating_add(by);
            }
        }
        Ok(())
    }

    fn manifest_read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>> {
        self.meter.host_call()?;
        let raw = self.raw_manifest.as_deref().unwrap_or_default().as_bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(raw.len());
        let rest = raw.get(start..).unwrap_or_default();
        let length = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_READ).min(rest.len());
        Ok(rest.get(..length).unwrap_or_default().to_vec())
    }
}

impl Guest {
    /// A fact that `describe` does not want was never looked up: to answer "none" would be a lie.
    fn wanted(&mut self, fact: Fact) -> Result<()> {
        self.meter.host_call()?;
        if self.wants.contains(fact) {
            return Ok(());
        }
        Err(wasmtime::Error::new(Misuse(format!("the fact `{}` is not among what `describe` wants", fact.name()))))
    }
}

impl facts::Host for Guest {
    fn tag_digest(&mut self, tag: String) -> Result<Option<String>> {
        self.wanted(Fact::TagDigest)?;
        Ok(self.facts.tag_digest.as_ref().and_then(|tags| tags.get(&tag)).cloned())
    }

    fn tags_of_digest(&mut self, digest: String) -> Result<Vec<String>> {
        self.wanted(Fact::TagsOfDigest)?;
        Ok(self.facts.tags_of_digest.as_ref().and_then(|digests| digests.get(&digest)).cloned().unwrap_or_default())
    }

    fn get_image_config(&mut self) -> Result<Option<ImageConfig>> {
        self.wanted(Fact::ImageConfig)?;
        Ok(self.facts.image_config.clone())
    }

    /// There is no "unknown" in the answer's type: where the usage is not at hand the call ends.
    fn get_usage(&mut self) -> Result<Usage> {
        self.wanted(Fact::Usage)?;
        self.facts.usage.ok_or_else(|| wasmtime::Error::new(Misuse("the project's usage is not at hand".to_owned())))
    }

    fn pushed_at_ms(&mut self, digest: String) -> Result<Option<u64>> {
        self.wanted(Fact::PushedAt)?;
        Ok(self.facts.pushed_at.as_ref().and_then(|digests| digests.get(&digest)).copied())
    }

    fn referrers(&mut self) -> Result<Vec<Descriptor>> {
        self.wanted(Fact::Referrers)?;
        Ok(self.facts.referrers.clone().unwrap_or_default())
    }

    fn verified_signers(&mut self) -> Result<Vec<String>> {
        self.wanted(Fact::VerifiedSigners)?;
        Ok(self.facts.verified_signers.clone().unwrap_or_default())
    }
}
