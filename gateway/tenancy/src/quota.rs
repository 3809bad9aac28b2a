//! What a project may hold, what it holds, and what it asks for. The rules of the ledger are in decision 11.

use crate::ledger::JournalEntry;
use crate::{Project, ProjectId, Random, RobotId, Store, StoreError, TenancyError, Timestamp, random_id};
use portcullis_oci::{Digest, RepositoryName};
use std::fmt;

/// Most bytes that a quota can name: what a column takes.
pub const MAX_BYTES: u64 = i64::MAX as u64;
/// Longest reason, in characters.
const MAX_REASON: usize = 1000;

/// A number of bytes, as people read it: `24.0 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    const UNITS: [(&'static str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

    /// Reads a whole number with a unit of 1024 (`20GiB`, `512 MiB`) or 1000 (`20GB`), or plain bytes.
    pub fn parse(text: &str) -> Result<Self, TenancyError> {
        let invalid = || {
            TenancyError::Invalid(format!(
                "`{text}` is no size: a whole number and KiB, MiB, GiB, TiB, kB, MB, GB, TB, or nothing for bytes, such as 20GiB"
            ))
        };
        let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end).ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "tib" | "t" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(invalid()),
        };
        number.checked_mul(factor).filter(|bytes| *bytes <= MAX_BYTES).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = Self::UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0).unwrap_or(("B", 0));
        if shift == 0 {
            return write!(f, "{} {unit}", self.0);
        }
        // Tenths, cut and not rounded: what is told of a limit is never above it.
        let tenths = u128::from(self.0).saturating_mul(10) >> shift;
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// A project's account, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What it may hold; none is no limit.
    pub quota: Option<u64>,
    /// From which part of the quota on pushes are answered with a warning, in percent.
    pub soft_percent: Option<u8>,
    /// The sizes of its distinct blobs and manifests.
    pub committed: u64,
    /// What uploads and operations under way may still bring.
    pub reserved: u64,
    /// What is not charged any more and is still upstream, until it is taken away there.
    pub waiting: u64,
}

impl Account {
    /// Committed and reserved.
    pub fn used(&self) -> u64 {
        self.committed.saturating_add(self.reserved)
    }

    /// What is left; none is no limit.
    pub fn free(&self) -> Option<u64> {
        self.quota.map(|quota| quota.saturating_sub(self.used()))
    }

    /// Where the soft limit lies.
    pub fn soft_bytes(&self) -> Option<u64> {
        let bytes = u128::from(self.quota?).saturating_mul(self.soft_percent?.into()) / 100;
        u64::try_from(bytes).ok()
    }

    /// How many bytes more it may hold: without a limit, as many as can be counted.
    pub fn room(&self) -> u64 {
        self.quota.unwrap_or(MAX_BYTES).saturating_sub(self.used())
    }

    /// What is left of the storage that a project may take up, where what waits to be taken away may be so many percent of its
    /// quota; none is no limit.
    pub fn free_upstream(&self, waiting_percent: u32) -> Option<u64> {
        let most = u128::from(self.quota?).saturating_mul(u128::from(waiting_percent).saturating_add(100)) / 100;
        let taken = u128::from(self.used()).saturating_add(self.waiting.into());
        Some(u64::try_from(most.saturating_sub(taken)).unwrap_or(u64::MAX))
    }

    /// Whether the soft limit is passed.
    pub fn is_past_soft(&self) -> bool {
        self.soft_bytes().is_some_and(|soft| self.used() > soft)
    }
}

/// Room that is asked for before bytes go upstream.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The upload's or the operation's id. A claim on one that is there makes it grow, and never shrink.
    pub id: Box<str>,
    /// The project that is charged.
    pub project: ProjectId,
    /// Who brings the bytes.
    pub robot: Option<RobotId>,
    /// What for.
    pub purpose: Purpose,
    /// What the reservation must hold in all, in bytes.
    pub at_least: u64,
    /// What it may hold where there is room.
    pub at_most: u64,
    /// Now.
    pub now: Timestamp,
    /// When it is given up, if nobody renews it.
    pub expires_at: Timestamp,
    /// Blobs that a manifest names: for as long as the reservation lasts, none of them is uncharged or taken away.
    pub pins: Vec<Digest>,
    /// The manifest that names them, and its size: beside what is asked for, what of it and of them the project is not charged
    /// with is reserved.
    pub manifest: Option<(Digest, u64)>,
    /// Written down along with it.
    pub journal: Option<JournalEntry>,
    /// How much of what is deleted may still be upstream, in percent of the quota; none where nobody knows how much it is.
    pub waiting_percent: Option<u32>,
    /// The tags of the manifest in the journal are locked along with it, by the claim's id and until then, where all are free.
    pub lock_until: Option<Timestamp>,
    /// Whose request of an upload it is, where other nodes may have one of the same upload.
    pub lease: Option<Lease>,
}

/// Somebody is at work at an upload: nobody else is until he leaves it, or is silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who: a node.
    pub holder: Box<str>,
    /// Until when that counts if it is not renewed.
    pub until: Timestamp,
}

impl Lease {
    /// Whether another one has to wait for it.
    pub fn keeps_out(&self, other: &Self, now: Timestamp) -> bool {
        self.holder != other.holder && self.until > now
    }
}

/// What a reservation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An upload's bytes.
    Upload,
    /// A blob that comes from another repository.
    Mount,
    /// A manifest, and what it names that is not charged.
    Manifest,
}

impl Purpose {
    /// As it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Mount => "mount",
            Self::Manifest => "manifest",
        }
    }
}

/// Whether there is room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is.
    Granted {
        /// What the reservation holds now, in bytes; zero once it has been turned into what is committed.
        held: u64,
        /// The account afterwards.
        account: Account,
        /// Whether the tags were locked along with it.
        locked: bool,
        /// Pins of a manifest that the ledger does not know: there is no room among this for them.
        unknown: Vec<Digest>,
    },
    /// There is not, and nothing has changed.
    Refused(Shortage),
    /// The digest is being taken away upstream this moment, or somebody else is at work at the upload, and nothing has changed.
    Busy,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The account as it is.
    pub account: Account,
    /// How many bytes more were asked for.
    pub asked: u64,
    /// The cap over all projects and what they use, where it is that which is in the way.
    pub total: Option<(u64, u64)>,
    /// What is in the way is what was deleted and is still upstream.
    pub waits: bool,
}

impl Shortage {
    /// What the client is told.
    pub fn message(&self, project: &str, what: &str) -> String {
        let asked = Size(self.asked);
        if self.waits {
            return format!(
                "project {project}: {} of {} used, and {} that were deleted still take up the registry's storage; this {what} needs {asked} more: push it again once they are taken away",
                Size(self.account.used()),
                Size(self.account.quota.unwrap_or_default()),
                Size(self.account.waiting)
            );
        }
        match self.total {
            Some((cap, used)) => format!(
                "project {project}: the registry as a whole has {} of {} used, this {what} needs {asked} more; ask its operator for room",
                Size(used),
                Size(cap)
            ),
            None => format!(
                "project {project}: {} of {} used, this {what} needs {asked} more",
                Size(self.account.used()),
                Size(self.account.quota.unwrap_or(MAX_BYTES))
            ),
        }
    }
}

/// A cap over all projects, and what they use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The cap; none is no limit.
    pub cap: Option<u64>,
    /// What all projects have committed.
    pub committed: u64,
    /// What all projects have reserved.
    pub reserved: u64,
}

/// What of a manifest a project is not charged with yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpaid {
    /// Whether it is charged with the manifest itself.
    pub knows_manifest: bool,
    /// The bytes of blobs that the ledger knows.
    pub bytes: u64,
    /// Blobs that it does not know.
    pub unknown: Vec<Digest>,
}

/// What counts most in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    /// Charged, and named by no manifest: it comes back by itself after the grace.
    pub reclaimable: u64,
    /// Repositories with what they hold, the largest first; what two hold counts in both.
    pub repositories: Vec<(RepositoryName, u64)>,
    /// The largest blobs.
    pub blobs: Vec<(Digest, u64)>,
}

/// A wish for another quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaRequest {
    /// Its identity.
    pub id: Box<str>,
    /// The project.
    pub project: ProjectId,
    /// The quota that is wanted, in bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// By whom.
    pub requested_by: String,
    /// What became of it; none while it is pending.
    pub decision: Option<Decision>,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The quota that was granted; none where it was declined.
    pub granted: Option<u64>,
    /// Why, in words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// Asks for a quota.
pub async fn request(
    store: &dyn Store,
    project: &Project,
    bytes: Size,
    reason: &str,
    by: &str,
    now: Timestamp,
    random: Random<'_>,
) -> Result<QuotaRequest, TenancyError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(TenancyError::Invalid(format!(
            "a reason has 1 to {MAX_REASON} characters: it is what the operator decides by"
        )));
    }
    let request = QuotaRequest {
        id: random_id(random).chars().take(8).collect::<String>().into(),
        project: project.id.clone(),
        bytes: bytes.0,
        reason: reason.to_owned(),
        requested_at: now,
        requested_by: by.to_owned(),
        decision: None,
    };
    store.add_quota_request(&request).await?;
    Ok(request)
}

/// Decides about a request that is pending; what is granted is in force at once.
pub async fn decide(store: &dyn Store, id: &str, decision: Decision) -> Result<QuotaRequest, TenancyError> {
    match store.decide_quota_request(id, &decision).await {
        Ok(request) => Ok(request),
        Err(StoreError::Missing) => Err(TenancyError::NotFound(format!(
            "no request `{id}` of a living project is pending: `portcullis quota requests --pending` shows those that are"
        ))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_with_their_units_and_refused_without_sense() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1KiB", 1024),
            ("512 MiB", 512 << 20),
            ("20GiB", 20 << 30),
            ("2TiB", 2 << 40),
            ("2tib", 2 << 40),
            ("1kB", 1000),
            ("20GB", 20_000_000_000),
        ] {
            assert_eq!(Size::parse(text).unwrap(), Size(bytes), "{text}");
        }
        for text in
            ["", "GiB", "-1", "1.5GiB", "1 XB", "99999999TiB", "18446744073709551616", "9223372036854775808", "1é"]
        {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_told_in_tenths_and_never_above_themselves() {
        let told = |bytes: u64| Size(bytes).to_string();
        assert_eq!(told(0), "0 B");
        assert_eq!(told(1023), "1023 B");
        assert_eq!(told(1024), "1.0 KiB");
        assert_eq!(told((24 << 20) + 1), "24.0 MiB");
        assert_eq!(told((1 << 30) - 1), "1023.9 MiB");
        assert_eq!(told(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn a_shortage_says_what_is_used_and_what_is_needed() {
        let account = Account {
            quota: Some(512 << 20),
            soft_percent: None,
            committed: 500 << 20,
            reserved: 12 << 20,
            waiting: 3 << 30,
        };
        let mut shortage = Shortage { account, asked: 24 << 20, total: None, waits: false };
        assert_eq!(
            shortage.message("acme", "upload"),
            "project acme: 512.0 MiB of 512.0 MiB used, this upload needs 24.0 MiB more"
        );
        shortage.total = Some((2 << 40, 2 << 40));
        assert!(shortage.message("acme", "upload").contains("2.0 TiB of 2.0 TiB used"));
        shortage.waits = true;
        assert!(shortage.message("acme", "upload").contains("3.0 GiB that were deleted"));
    }

    #[test]
    fn what_waits_may_be_a_part_of_the_quota() {
        let account = Account { quota: Some(1000), committed: 300, reserved: 100, waiting: 500, ..Account::default() };
        for (percent, free) in [(0, 100), (50, 600), (100, 1100)] {
            assert_eq!(account.free_upstream(percent), Some(free), "{percent}");
        }
        assert_eq!(Account { waiting: 5000, ..account }.free_upstream(100), Some(0));
        assert_eq!(Account { quota: Some(MAX_BYTES), ..account }.free_upstream(u32::MAX), Some(u64::MAX));
        assert_eq!(Account { quota: None, ..account }.free_upstream(100), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_refused(text in ".{0,12}") {
            let _ = Size::parse(&text);
        }

        #[test]
        fn an_account_is_past_its_soft_limit_exactly_where_its_percentage_is(quota in 0..u64::MAX >> 8, percent in 1..=100_u8, used in 0..u64::MAX >> 8) {
            let account = Account { quota: Some(quota), soft_percent: Some(percent), committed: used, ..Account::default() };
            let soft = u128::from(quota).saturating_mul(percent.into()) / 100;
            prop_assert_eq!(account.is_past_soft(), u128::from(used) > soft);
        }
    }
}
