use super::*;
use portcullis_oci::Digest;
use portcullis_tenancy::Timestamp;
use portcullis_tenancy::policy::{Mode, OnError, PolicyName};

fn acme() -> Owner {
    Owner::Project("acme".into())
}

fn attachment(settings: &str) -> Attachment {
    Attachment {
        id: "id".into(),
        project: None,
        name: PolicyName::parse("naming").unwrap(),
        digest: Digest::sha256(b"x"),
        source: "x".into(),
        settings: settings.into(),
        mode: Mode::Enforce,
        on_error: OnError::Deny,
        order: 0,
        reuse: None,
        attached_at: Timestamp::UNIX_EPOCH,
        attached_by: "operator".into(),
    }
}

/// What every owner has attached, by its settings.
fn all(owners: &[(Owner, &str)]) -> HashMap<Owner, Vec<Attachment>> {
    owners.iter().map(|(owner, settings)| (owner.clone(), vec![attachment(settings)])).collect()
}

fn owners(loads: &[Load]) -> Vec<Owner> {
    let mut owners: Vec<Owner> = loads.iter().map(|load| load.owner.clone()).collect();
    owners.sort();
    owners
}

#[test]
fn only_what_has_changed_is_loaded_and_what_is_gone_is_emptied() {
    let (mut loading, now) = (Loading::default(), Instant::now());
    let both = all(&[(Owner::Platform, "1"), (acme(), "1")]);
    assert!(loading.is_due(Generation(1), now));
    assert_eq!(owners(&loading.begin(Generation(1), both, now)), [Owner::Platform, acme()]);
    assert!(!loading.is_due(Generation(1), now) && loading.is_due(Generation(2), now));
    for owner in [Owner::Platform, acme()] {
        loading.end(&owner, Outcome::Whole, now);
    }
    let changed = all(&[(Owner::Platform, "1"), (acme(), "2")]);
    assert_eq!(owners(&loading.begin(Generation(2), changed, now)), [acme()]);
    loading.end(&acme(), Outcome::Whole, now);
    let gone = loading.begin(Generation(3), all(&[(Owner::Platform, "1")]), now);
    assert_eq!(gone, [Load { owner: acme(), attachments: Vec::new() }]);
    loading.end(&acme(), Outcome::Whole, now);
    assert!(loading.begin(Generation(4), all(&[(Owner::Platform, "1")]), now).is_empty());
}

#[test]
fn a_slow_load_delays_its_owner_alone() {
    let (mut loading, now) = (Loading::default(), Instant::now());
    loading.begin(Generation(1), all(&[(acme(), "slow")]), now);
    let more = all(&[(acme(), "2"), (Owner::Platform, "1")]);
    assert_eq!(owners(&loading.begin(Generation(2), more.clone(), now)), [Owner::Platform]);
    assert!(!loading.is_due(Generation(2), now), "nothing can be done for acme yet");
    loading.end(&acme(), Outcome::Whole, now);
    assert!(loading.is_due(Generation(2), now));
    let loads = loading.begin(Generation(2), more, now);
    assert_eq!(loads, [Load { owner: acme(), attachments: vec![attachment("2")] }]);
}

#[test]
fn what_may_be_gone_in_a_moment_is_tried_again_soon_and_ever_later() {
    let (mut loading, mut now) = (Loading::default(), Instant::now());
    let attached = all(&[(acme(), "1")]);
    let after = |seconds| Duration::from_secs(seconds);
    loading.begin(Generation(1), attached.clone(), now);
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        loading.end(&acme(), Outcome::Later, now);
        assert!(!loading.is_due(Generation(1), now + after(wait) - Duration::from_millis(1)));
        assert!(loading.begin(Generation(2), attached.clone(), now).is_empty(), "another's change does not hasten it");
        loading.generation = Some(Generation(1));
        now += after(wait);
        assert!(loading.is_due(Generation(1), now));
        assert_eq!(owners(&loading.begin(Generation(1), attached.clone(), now)), [acme()]);
    }
    loading.end(&acme(), Outcome::Broken, now);
    assert!(!loading.is_due(Generation(1), now + after(29)) && loading.is_due(Generation(1), now + after(30)));
    let changed = all(&[(acme(), "2")]);
    assert_eq!(owners(&loading.begin(Generation(3), changed, now)), [acme()], "its owner's own change does");
    loading.end(&acme(), Outcome::Whole, now);
    assert!(!loading.is_due(Generation(3), now + after(3600)));
}
