//! What can be told of an attached policy.

use super::{Attached, Mode, OnError, Owner};
use crate::evaluate::Counts;
use crate::limits::Class;
use crate::question::Hook;
use portcullis_oci::Digest;

/// What can be told of an attached policy, for `policy status`, pages and metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whose it is.
    pub owner: Owner,
    /// Its name.
    pub name: String,
    /// Its place in the chain.
    pub order: i32,
    /// Whether its verdicts count.
    pub mode: Mode,
    /// What its failures mean.
    pub on_error: OnError,
    /// The digest that is attached.
    pub digest: Digest,
    /// The digest that runs; another than the attached one where that could not be loaded.
    pub running: Option<Digest>,
    /// The version that it gives itself.
    pub version: Option<String>,
    /// The class of slots that it needs.
    pub class: Option<Class>,
    /// Where it is asked.
    pub hooks: Vec<Hook>,
    /// Why it does not run as attached.
    pub problem: Option<String>,
    /// What was counted.
    pub counts: Counts,
}

impl Attached {
    pub(super) fn status(&self) -> Status {
        let program = self.policy.as_ref().map(|policy| policy.program());
        Status {
            owner: self.owner.clone(),
            name: self.attachment.name.clone(),
            order: self.attachment.order,
            mode: self.attachment.mode,
            on_error: self.attachment.on_error,
            digest: self.attachment.digest.clone(),
            running: program.map(|program| program.digest().clone()),
            version: program.map(|program| program.info().version.clone()),
            class: program.map(|program| program.class()),
            hooks: Hook::ALL.into_iter().filter(|hook| self.hooks().contains(*hook)).collect(),
            problem: self.problem.as_ref().map(|error| error.to_string()),
            counts: self.counters.read(),
        }
    }
}
