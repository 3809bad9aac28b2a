//! What a comparison finds: where the record and the upstream differ, and how.

use portcullis_oci::{Digest, RepositoryName, Tag};
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use std::fmt;

/// How the record and the upstream differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is upstream, and not on record.
    MissingInLedger,
    /// It is on record, and not upstream.
    MissingUpstream,
    /// Its size is another than is on record.
    WrongSize,
    /// A tag stands on something else than is on record, on either side perhaps on nothing.
    WrongTag,
    /// What a project is charged with is not the sum of what it has on record.
    WrongCounter,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::MissingInLedger, Self::MissingUpstream, Self::WrongSize, Self::WrongTag, Self::WrongCounter];

    /// Its name, for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingInLedger => "missing-in-ledger",
            Self::MissingUpstream => "missing-upstream",
            Self::WrongSize => "wrong-size",
            Self::WrongTag => "wrong-tag",
            Self::WrongCounter => "wrong-counter",
        }
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A manifest in a repository.
    Manifest(Digest),
    /// A blob in a repository, and a manifest upstream that names it, if one does.
    Blob {
        /// The blob.
        digest: Digest,
        /// The manifest.
        named_by: Option<Digest>,
    },
    /// A tag.
    Tag(Tag),
    /// A project's counter.
    Counter,
}

/// What one side says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// How large it is.
    Size(u64),
    /// What it stands on.
    Digest(Digest),
}

/// What the record says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnRecord {
    /// Nothing.
    Nothing,
    /// This.
    Held(Fact),
    /// It is not charged any more, and waits to be taken away upstream: whether it is still there makes no difference.
    Uncharged,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How they differ.
    pub kind: Kind,
    /// In which repository; none for a counter.
    pub repository: Option<RepositoryName>,
    /// In what.
    pub subject: Subject,
    /// What is on record; of a counter, what it says.
    pub recorded: Option<Fact>,
    /// What the upstream has; of a counter, the sum of what is on record.
    pub upstream: Option<Fact>,
    /// Whether it has been mended.
    pub is_mended: bool,
}

impl Finding {
    /// The difference between what both sides say, if there is one.
    pub fn judge(
        repository: &RepositoryName,
        subject: Subject,
        recorded: OnRecord,
        upstream: Option<Fact>,
    ) -> Option<Self> {
        let recorded = match recorded {
            OnRecord::Uncharged => return None,
            OnRecord::Nothing => None,
            OnRecord::Held(fact) => Some(fact),
        };
        if recorded == upstream {
            return None;
        }
        let kind = match (&subject, &recorded, &upstream) {
            (Subject::Tag(_), _, _) => Kind::WrongTag,
            // What no manifest names is nobody's: it may be an upload's under way.
            (Subject::Blob { named_by: None, .. }, None, _) => return None,
            (_, None, _) => Kind::MissingInLedger,
            (_, _, None) => Kind::MissingUpstream,
            _ => Kind::WrongSize,
        };
        Some(Self { kind, repository: Some(repository.clone()), subject, recorded, upstream, is_mended: false })
    }

    /// A counter that says something else than the sum.
    pub fn of_counter(counted: u64, sum: u64) -> Option<Self> {
        (counted != sum).then_some(Self {
            kind: Kind::WrongCounter,
            repository: None,
            subject: Subject::Counter,
            recorded: Some(Fact::Size(counted)),
            upstream: Some(Fact::Size(sum)),
            is_mended: false,
        })
    }

    /// Whether somebody is at work at what differs.
    pub fn is_touched_by(&self, entry: &JournalEntry) -> bool {
        if self.repository.as_ref() != Some(&entry.repository) {
            return false;
        }
        let stands_on = |digest: &Digest| {
            [&self.recorded, &self.upstream].into_iter().flatten().any(|fact| *fact == Fact::Digest(digest.clone()))
        };
        match (&entry.step, &self.subject) {
            (JournalStep::DeleteTag { tag, .. }, Subject::Tag(own)) => own == tag,
            (JournalStep::DeleteTag { throwaway, .. }, Subject::Manifest(own)) => own == throwaway,
            (JournalStep::PutManifest { tags, digest }, Subject::Tag(own)) => tags.contains(own) || stands_on(digest),
            (JournalStep::DeleteManifest { digest }, Subject::Tag(_)) => stands_on(digest),
            (
                JournalStep::PutManifest { digest, .. } | JournalStep::DeleteManifest { digest },
                Subject::Manifest(own) | Subject::Blob { named_by: Some(own), .. },
            ) => own == digest,
            (
                JournalStep::PutBlob { digest } | JournalStep::DeleteBlob { digest },
                Subject::Blob { digest: own, .. },
            ) => own == digest,
            _ => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
            Self::Blob { digest, .. } => write!(f, "blob {digest}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Counter => f.write_str("what is charged"),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "{bytes} B"),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::{ProjectId, Timestamp};

    fn app() -> RepositoryName {
        RepositoryName::parse("acme/app").unwrap()
    }

    fn digest(of: &str) -> Digest {
        Digest::sha256(of.as_bytes())
    }

    fn tag() -> Subject {
        Subject::Tag(Tag::parse("1.0").unwrap())
    }

    fn blob(named_by: Option<&str>) -> Subject {
        Subject::Blob { digest: digest("blob"), named_by: named_by.map(digest) }
    }

    fn kind(subject: Subject, recorded: OnRecord, upstream: Option<Fact>) -> Option<Kind> {
        Finding::judge(&app(), subject, recorded, upstream).map(|finding| finding.kind)
    }

    #[test]
    fn each_difference_has_its_kind() {
        let held = |bytes| OnRecord::Held(Fact::Size(bytes));
        let there = |bytes| Some(Fact::Size(bytes));
        let on = |of: &str| Fact::Digest(digest(of));
        for manifest in [Subject::Manifest(digest("m")), blob(Some("m"))] {
            assert_eq!(kind(manifest.clone(), OnRecord::Nothing, there(1)), Some(Kind::MissingInLedger));
            assert_eq!(kind(manifest.clone(), held(1), None), Some(Kind::MissingUpstream));
            assert_eq!(kind(manifest.clone(), held(1), there(2)), Some(Kind::WrongSize));
            assert_eq!(kind(manifest.clone(), held(1), there(1)), None);
            assert_eq!(kind(manifest, OnRecord::Nothing, None), None);
        }
        assert_eq!(kind(tag(), OnRecord::Nothing, Some(on("m"))), Some(Kind::WrongTag));
        assert_eq!(kind(tag(), OnRecord::Held(on("m")), None), Some(Kind::WrongTag));
        assert_eq!(kind(tag(), OnRecord::Held(on("m")), Some(on("n"))), Some(Kind::WrongTag));
        assert_eq!(kind(tag(), OnRecord::Held(on("m")), Some(on("m"))), None);
        assert_eq!(Finding::of_counter(1, 1), None);
        assert_eq!(Finding::of_counter(1, 2).map(|finding| finding.kind), Some(Kind::WrongCounter));
    }

    #[test]
    fn what_waits_to_be_taken_away_and_what_nobody_names_is_no_drift() {
        for upstream in [None, Some(Fact::Size(1))] {
            assert_eq!(kind(blob(Some("m")), OnRecord::Uncharged, upstream), None);
        }
        assert_eq!(kind(blob(None), OnRecord::Nothing, Some(Fact::Size(1))), None);
    }

    #[test]
    fn what_somebody_is_at_work_at_is_known_by_its_journal_entry() {
        let entry = |step| JournalEntry {
            id: "id".into(),
            project: ProjectId("p".into()),
            repository: app(),
            step,
            actor: "acme+ci".into(),
            started_at: Timestamp::UNIX_EPOCH,
        };
        let of = |subject, upstream| Finding::judge(&app(), subject, OnRecord::Nothing, Some(upstream)).unwrap();
        let manifest = of(Subject::Manifest(digest("m")), Fact::Size(1));
        let named = of(blob(Some("m")), Fact::Size(1));
        let tagged = of(tag(), Fact::Digest(digest("m")));
        for step in [
            JournalStep::PutManifest { digest: digest("m"), tags: Vec::new() },
            JournalStep::DeleteManifest { digest: digest("m") },
        ] {
            let entry = entry(step);
            assert!([&manifest, &named, &tagged].iter().all(|finding| finding.is_touched_by(&entry)));
            let elsewhere = JournalEntry { repository: RepositoryName::parse("acme/other").unwrap(), ..entry };
            assert!(![&manifest, &named, &tagged].iter().any(|finding| finding.is_touched_by(&elsewhere)));
        }
        let uploading = entry(JournalStep::PutBlob { digest: digest("blob") });
        assert!(named.is_touched_by(&uploading) && !manifest.is_touched_by(&uploading));
        let untagging =
            entry(JournalStep::DeleteTag { tag: Tag::parse("1.0").unwrap(), throwaway: digest("throwaway") });
        assert!(tagged.is_touched_by(&untagging) && !named.is_touched_by(&untagging));
        let other = entry(JournalStep::PutManifest { digest: digest("n"), tags: vec![Tag::parse("2.0").unwrap()] });
        assert!(![&manifest, &named, &tagged].iter().any(|finding| finding.is_touched_by(&other)));
    }
}
