//! What is under way, who is at work at it, and what is left of it after a crash.

use super::quota::{account, claim, held, image};
use super::*;
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::quota::{Claim, Lease, Purpose};

pub async fn a_sweep_releases_what_nobody_renews_and_nobody_journalled(nodes: Nodes) {
    let (acme, robot) = acme(&*nodes.one).await;
    nodes.one.open_upload(&upload("closed", &robot, "acme/app")).await.unwrap();
    let journal = JournalEntry {
        id: "journalled".into(),
        project: acme.id.clone(),
        repository: repo("acme/app"),
        step: JournalStep::PutBlob { digest: digest("b") },
        actor: "acme+ci".into(),
        started_at: at(1),
    };
    nodes.one.open_upload(&upload("left", &robot, "acme/app")).await.unwrap();
    for id in ["ended", "renewed", "closed", "left", "journalled"] {
        let mut claim = claim(&acme, id, 10, 10);
        claim.journal = (id == "journalled").then(|| journal.clone());
        nodes.one.reserve(&claim).await.unwrap();
    }
    nodes.one.close_upload("closed").await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 40);
    nodes.one.renew(&["renewed".into()], at(500), at(900), None).await.unwrap();
    assert!(nodes.other.ended_uploads(at(600), 10).await.unwrap().is_empty());
    nodes.one.sweep(at(601)).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 30);
    // An upload's room ends before it does, and ends it.
    assert_eq!(nodes.other.ended_uploads(at(601), 10).await.unwrap().len(), 1);
    nodes.one.close_upload("left").await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 20);
    assert_eq!(nodes.other.unfinished(at(2)).await.unwrap(), [journal]);
    nodes.one.release("journalled").await.unwrap();
    assert!(nodes.other.unfinished(at(2)).await.unwrap().is_empty());
    nodes.one.sweep(at(901)).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 0);
}

pub async fn an_upload_is_one_nodes_at_a_time(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    nodes.one.open_upload(&upload("u", &ci, "acme/app")).await.unwrap();
    let lease = |node: &str, until| Lease { holder: node.into(), until: at(until) };
    let is_let_in = async |node: &str, now| {
        let claim = Claim { now: at(now), lease: Some(lease(node, now + 30)), ..claim(&acme, "u", 100, 100) };
        let admission = nodes.one.reserve(&claim).await.unwrap();
        assert!(matches!(admission, Admission::Granted { .. } | Admission::Busy), "{admission:?}");
        admission != Admission::Busy
    };
    assert!(is_let_in("one", 0).await);
    assert!(!is_let_in("other", 1).await);
    assert!(is_let_in("one", 10).await, "it is its own, as after a crash");
    assert_eq!(held(&nodes.one.reserve(&claim(&acme, "u", 200, 200)).await.unwrap()), Some(200));
    assert!(!is_let_in("other", 11).await, "more room changes nothing");
    let renew = async |node: &str, until| {
        nodes.one.renew(&["u".into(), "?".into()], at(35), at(700), Some(&lease(node, until))).await.unwrap();
    };
    renew("one", 65).await;
    renew("other", 999).await;
    assert!(!is_let_in("other", 64).await);
    assert!(is_let_in("other", 65).await, "nobody renews it any more");
    nodes.one.leave_upload("u", "one", None).await.unwrap();
    assert!(!is_let_in("one", 66).await, "only its holder gives it back");
    nodes.one.shrink("u", "one", 0, at(700)).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 200, "nor does anybody else lower it");
    nodes.one.leave_upload("u", "one", Some("/v2/stale")).await.unwrap();
    assert_ne!(nodes.one.upload("u").await.unwrap().unwrap().upstream.as_deref(), Some("/v2/stale"));
    nodes.other.leave_upload("u", "other", Some("/v2/further")).await.unwrap();
    assert_eq!(nodes.one.upload("u").await.unwrap().unwrap().upstream.as_deref(), Some("/v2/further"));
    assert!(is_let_in("one", 66).await);
    assert_eq!(account(&nodes, &acme).await.reserved, 200);
}

pub async fn what_is_found_after_a_crash_counts_once_and_whatever_room_there_is(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    nodes.one.reserve(&claim(&acme, "cut-off", 100, 100)).await.unwrap();
    nodes.one.set_quota(&acme.id, Some(10), None).await.unwrap();
    let found = image(&acme, "acme/app", "m", &[]);
    assert!(held(&nodes.one.add_manifest(&found, &[], Charge::Found("cut-off")).await.unwrap()).is_some());
    let now = account(&nodes, &acme).await;
    assert_eq!((now.committed, now.reserved), (found.manifest.size, 0));
}

pub async fn a_push_and_a_deletion_side_by_side_both_stay_in_the_journal(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let entry = |id: &str, step| JournalEntry {
        id: id.into(),
        project: acme.id.clone(),
        repository: repo("acme/app"),
        step,
        actor: "acme+ci".into(),
        started_at: at(1),
    };
    let blob = || JournalStep::PutBlob { digest: digest("b") };
    let image = image(&acme, "acme/app", "m", &[]);
    let manifest = || JournalStep::PutManifest { digest: digest("m"), tags: Vec::new() };
    let left = async || {
        let mut left: Vec<Box<str>> = Vec::new();
        left.extend(nodes.other.unfinished(at(9)).await.unwrap().into_iter().map(|entry| entry.id));
        left
    };
    // Two pushes of one thing are not in each other's way.
    for id in ["one", "two"] {
        nodes.one.begin(&entry(id, blob())).await.unwrap();
    }
    for id in ["one", "two"] {
        hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("b"), 100, Some(id), at(1)).await.unwrap();
    }
    assert_eq!(left().await, []);
    for (id, step) in [("put-b", blob()), ("put-m", manifest())] {
        nodes.one.begin(&entry(id, step)).await.unwrap();
    }
    let gone = [
        ("del-b", JournalStep::DeleteBlob { digest: digest("b") }),
        ("del-m", JournalStep::DeleteManifest { digest: digest("m") }),
        ("del-n", JournalStep::DeleteManifest { digest: digest("n") }),
    ];
    for (id, step) in gone {
        nodes.one.begin(&entry(id, step)).await.unwrap();
    }
    hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("b"), 100, Some("put-b"), at(1)).await.unwrap();
    nodes.one.add_manifest(&image, &[], Charge::By("put-m")).await.unwrap();
    for id in ["del-b", "del-m", "del-n"] {
        nodes.one.finish(id).await.unwrap();
    }
    let mut both = left().await;
    both.sort();
    assert_eq!(both, ["del-b", "del-m", "put-b", "put-m"].map(Box::from));
    // Whoever has asked the upstream strikes them out.
    for id in both {
        nodes.one.release(&id).await.unwrap();
    }
    assert_eq!(left().await, []);
}

pub async fn a_push_locks_its_tags_with_its_reservation_and_gives_them_back_with_its_record(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let wish = |id: &str, of: &str, tags: &[&str]| Claim {
        purpose: Purpose::Manifest,
        lock_until: Some(at(99)),
        journal: Some(JournalEntry {
            id: id.into(),
            project: acme.id.clone(),
            repository: repo("acme/app"),
            step: JournalStep::PutManifest { digest: digest(of), tags: tags.iter().copied().map(tag).collect() },
            actor: "acme+ci".into(),
            started_at: at(1),
        }),
        ..claim(&acme, id, 500, 500)
    };
    let has_locked = async |claim: &Claim| {
        let admission = nodes.one.reserve(claim).await.unwrap();
        assert!(held(&admission).is_some(), "{admission:?}");
        matches!(admission, Admission::Granted { locked: true, .. })
    };
    assert!(has_locked(&wish("first", "m", &["latest"])).await);
    // All of its tags, or none.
    assert!(!has_locked(&wish("second", "n", &["1.0", "latest"])).await);
    let free = async |name: &str| {
        nodes.other.lock_tag(&acme.id, &repo("acme/app"), &tag(name), "another", at(2), at(3)).await.unwrap()
    };
    assert!(free("1.0").await && !free("latest").await);
    nodes.one.add_manifest(&image(&acme, "acme/app", "m", &[]), &[], Charge::By("first")).await.unwrap();
    assert!(free("latest").await);
}
