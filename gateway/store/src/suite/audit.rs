//! Records that go with their changes, chains that go on side by side, and what is found and forgotten.

use super::*;
use portcullis_tenancy::audit::{AuditKeys, Entry, Head, Kind, Note, Search, Verified, advance, forget, verify};
use portcullis_tenancy::key::MasterKey;
use portcullis_tenancy::policy::PolicyName;
use portcullis_tenancy::quota::{Claim, Purpose};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const NODE: &str = "node-a";

pub(crate) fn keys() -> AuditKeys {
    AuditKeys::new(&MasterKey::new([1; 32]))
}

fn sealed_at(node: &str, kind: Kind, of: &str, at: Timestamp) -> Entry {
    let random = |bytes: &mut [u8]| {
        bytes.fill(0);
        bytes[..8].copy_from_slice(&next().to_be_bytes());
    };
    keys().seal(Note::new(kind, "acme+ci").project("acme").reference(of), node, at, &random)
}

/// One after the other.
pub(crate) fn sealed(kind: Kind, of: &str) -> Entry {
    sealed_at(NODE, kind, of, at(i64::try_from(next()).unwrap()))
}

fn next() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// What is written down, as it came.
async fn written(store: &dyn Store) -> Vec<(String, String)> {
    let found = store.search_records(&Search { limit: 1000, ..Search::default() }).await.unwrap();
    found
        .into_iter()
        .rev()
        .map(|entry| (entry.record.kind.to_string(), entry.record.reference.unwrap_or_default().to_string()))
        .collect()
}

/// Gives all that wait at a node their places.
pub(crate) async fn chain_all(store: &dyn Store, node: &str) -> Option<Head> {
    loop {
        let step = advance(store, &keys(), node, None).await.unwrap();
        if step.chained.is_empty() {
            return step.head;
        }
    }
}

async fn verified(store: &dyn Store, node: &str) -> Verified {
    let head = store.audit_head(node).await.unwrap().unwrap();
    let after = head.base.as_ref().map_or(0, |base| base.count);
    let entries = store.chained_records(node, after, 100_000).await.unwrap();
    verify(&keys().witness(), &head, entries, &[]).unwrap()
}

pub async fn a_record_goes_with_its_change(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let with = |kind: Kind, of: &str| nodes.one.audited(sealed(kind, of));
    let blob =
        StoredBlob { project: acme.id.clone(), repository: app.clone(), digest: digest("layer"), size: 5, at: at(2) };
    with(Kind::BlobPush, "1").add_blob(&blob, Charge::Anyway).await.unwrap();
    let pushed = pushed(&acme, "acme/app", "m", &["1.0", "2.0"]);
    with(Kind::Push, "2").add_manifest(&pushed, &[(digest("config"), 6)], Charge::Anyway).await.unwrap();
    with(Kind::Push, "3").add_manifest(&pushed, &[], Charge::Anyway).await.unwrap();
    with(Kind::TagDelete, "4").remove_tag(&acme.id, &app, &tag("2.0")).await.unwrap();
    with(Kind::Delete, "5").remove_manifest(&acme.id, &app, &digest("m"), at(3)).await.unwrap();
    with(Kind::BlobDelete, "6").remove_link(&acme.id, &app, &digest("layer")).await.unwrap();
    with(Kind::QuotaSet, "7").set_quota(&acme.id, Some(1), None).await.unwrap();
    with(Kind::QuotaTotal, "8").set_total(Some(1000)).await.unwrap();
    with(Kind::MaintenanceOn, "9").set_maintenance(Some(at(4))).await.unwrap();
    with(Kind::RobotDisable, "10").set_disabled(&ci.id, Some(at(5))).await.unwrap();
    with(Kind::RobotDelete, "11").delete_robot(&ci.id).await.unwrap();
    with(Kind::ProjectCreate, "12").add_project(&project("globex")).await.unwrap();
    let expected: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
    let found = written(&*nodes.other).await;
    assert_eq!(found.iter().map(|(_, of)| of.clone()).collect::<Vec<_>>(), expected, "each once: {found:?}");
}

pub async fn what_changes_nothing_leaves_no_record(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let with = |kind: Kind| nodes.one.audited(sealed(kind, "nothing"));
    nodes.one.set_quota(&acme.id, Some(10), None).await.unwrap();
    let claim = |id: &str, bytes: u64| Claim {
        id: id.into(),
        project: acme.id.clone(),
        robot: Some(ci.id.clone()),
        purpose: Purpose::Upload,
        at_least: bytes,
        at_most: bytes,
        now: at(2),
        expires_at: at(600),
        pins: Vec::new(),
        manifest: None,
        journal: None,
        waiting_percent: None,
        lock_until: None,
        lease: None,
    };
    nodes.one.reserve(&claim("up", 3)).await.unwrap();
    let blob =
        StoredBlob { project: acme.id.clone(), repository: app.clone(), digest: digest("b"), size: 50, at: at(2) };
    let refused = with(Kind::BlobPush).add_blob(&blob, Charge::By("up")).await.unwrap();
    assert!(matches!(refused, Admission::Refused(_)), "{refused:?}");
    with(Kind::Delete).remove_manifest(&acme.id, &app, &digest("m"), at(3)).await.unwrap();
    assert_eq!(with(Kind::TagDelete).remove_tag(&acme.id, &app, &tag("1.0")).await.unwrap(), None);
    assert_eq!(with(Kind::BlobDelete).remove_link(&acme.id, &app, &digest("b")).await.unwrap(), 0);
    with(Kind::ProjectCreate).add_project(&acme).await.unwrap_err();
    with(Kind::RobotCreate).add_robot(&ci).await.unwrap_err();
    with(Kind::RobotDelete).delete_robot(&RobotId("nobody".into())).await.unwrap_err();
    with(Kind::PolicyDetach).remove_attachment(None, &PolicyName::parse("none").unwrap()).await.unwrap_err();
    assert_eq!(written(&*nodes.other).await, []);
}

pub async fn records_outlive_the_project_that_they_name(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let push = pushed(&acme, "acme/app", "m", &["1"]);
    nodes.one.audited(sealed(Kind::Push, "m")).add_manifest(&push, &[], Charge::Anyway).await.unwrap();
    nodes.one.delete_project(&acme.id, at(20)).await.unwrap();
    nodes.one.audited(sealed(Kind::ProjectPurge, "acme")).purge_project(&acme.id).await.unwrap();
    let found = written(&*nodes.other).await;
    assert_eq!(found, [("push".to_owned(), "m".to_owned()), ("project-purge".to_owned(), "acme".to_owned())]);
}

pub async fn records_wait_until_anybody_chains_them(nodes: Nodes) {
    assert_eq!(chain_all(&*nodes.one, NODE).await, None);
    let entries: Vec<Entry> =
        (0..1100).map(|number| sealed_at(NODE, Kind::LoginFailure, &number.to_string(), at(number))).collect();
    for lot in entries.chunks(400) {
        nodes.one.add_records(lot).await.unwrap();
        // The answer was lost, and it is written again.
        nodes.one.add_records(lot).await.unwrap();
    }
    // The node that wrote them is gone: another one does it.
    assert_eq!(nodes.other.waiting_nodes(at(0)).await.unwrap(), Vec::<Box<str>>::new());
    assert_eq!(nodes.other.waiting_nodes(at(1)).await.unwrap(), [NODE.into()]);
    let head = chain_all(&*nodes.other, NODE).await.unwrap();
    assert_eq!(head.count, 1100);
    assert_eq!(verified(&*nodes.one, NODE).await.seen, 1100);
    assert_eq!(nodes.one.waiting_records(Some(NODE), 10).await.unwrap(), []);
    let chained = nodes.one.chained_records(NODE, 1098, 10).await.unwrap();
    assert_eq!(chained.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [Some(1099), Some(1100)]);
    assert_eq!(nodes.one.audit_heads().await.unwrap(), [(head, 1100)]);
    assert_eq!(nodes.one.headless_nodes().await.unwrap(), Vec::<Box<str>>::new());
}

pub async fn of_all_who_chain_at_once_each_record_gets_one_place(nodes: Nodes) {
    let writers = ["node-a", "node-b"].map(|node| {
        let store = Arc::clone(&nodes.one);
        tokio::spawn(async move {
            for number in 0..120 {
                let entry = sealed_at(node, Kind::LoginFailure, &number.to_string(), at(number));
                store.add_records(&[entry]).await.unwrap();
            }
        })
    });
    let chainers = [0, 1, 2, 3].map(|number| {
        let store = if number % 2 == 0 { Arc::clone(&nodes.one) } else { Arc::clone(&nodes.other) };
        let node = if number < 2 { "node-a" } else { "node-b" };
        tokio::spawn(async move {
            loop {
                // Who was slower too often tries again.
                let _ = advance(&*store, &keys(), node, None).await;
                if store.audit_head(node).await.unwrap().is_some_and(|head| head.count == 120) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    for chainer in chainers {
        chainer.await.unwrap();
    }
    for node in ["node-a", "node-b"] {
        assert_eq!(verified(&*nodes.other, node).await.seen, 120);
        let entries = nodes.one.chained_records(node, 0, 1000).await.unwrap();
        let ids: BTreeSet<_> = entries.iter().map(|entry| entry.record.id.clone()).collect();
        assert_eq!(ids.len(), 120);
    }
}

pub async fn a_chain_that_was_turned_back_does_not_go_on(nodes: Nodes) {
    nodes.one.add_records(&[sealed(Kind::Push, "1"), sealed(Kind::Push, "2")]).await.unwrap();
    let head = chain_all(&*nodes.one, NODE).await.unwrap();
    let known = Some((head.count, head.link));
    nodes.one.add_records(&[sealed(Kind::Push, "3")]).await.unwrap();
    let longer = Some((head.count + 1, head.link));
    advance(&*nodes.one, &keys(), NODE, longer).await.unwrap_err();
    let strange = AuditKeys::new(&MasterKey::new([2; 32]));
    advance(&*nodes.one, &strange, NODE, known).await.unwrap_err();
    advance(&*nodes.one, &keys(), "node-b", known).await.unwrap_err();
    assert_eq!(nodes.other.waiting_records(Some(NODE), 10).await.unwrap().len(), 1, "it still waits");
    assert_eq!(advance(&*nodes.one, &keys(), NODE, known).await.unwrap().chained.len(), 1);
    // A head that somebody else has moved meanwhile is not moved again.
    let stale = nodes.one.chain_records(Some(&head), &head, &[]).await;
    assert!(matches!(stale, Err(portcullis_tenancy::StoreError::Changed)), "{stale:?}");
}

pub async fn records_are_found_by_what_is_known_of_them(nodes: Nodes) {
    let random = |bytes: &mut [u8]| bytes.fill(7);
    let mut note = Note::new(Kind::PolicyDenial, "acme+ci").from("2001:db8::7".parse().unwrap());
    note = note.project("acme").repository("acme/a_b").digest("sha256:1").because("policy gate").request("r1");
    note.times = 9;
    let full = keys().seal(note, "node-b", at(50), &random);
    let others = [sealed_at(NODE, Kind::Push, "1", at(10)), sealed_at(NODE, Kind::Delete, "2", at(20))];
    nodes.one.add_records(std::slice::from_ref(&full)).await.unwrap();
    nodes.one.add_records(&others).await.unwrap();
    chain_all(&*nodes.one, NODE).await;
    let find = async |search: Search| nodes.other.search_records(&Search { limit: 10, ..search }).await.unwrap();
    assert_eq!(
        find(Search { actor: Some("acme+ci".into()), address: Some("2001:db8::7".into()), ..Search::default() }).await,
        std::slice::from_ref(&full)
    );
    assert_eq!(
        find(Search { kind: Some("policy-denial".into()), project: Some("acme".into()), ..Search::default() }).await,
        [full]
    );
    let kinds = |found: Vec<Entry>| found.iter().map(|entry| entry.record.kind.to_string()).collect::<Vec<_>>();
    assert_eq!(kinds(find(Search::default()).await), ["policy-denial", "delete", "push"], "the newest first");
    assert_eq!(kinds(find(Search { since: Some(at(20)), until: Some(at(50)), ..Search::default() }).await), ["delete"]);
    assert_eq!(kinds(find(Search { project: Some("a%".into()), ..Search::default() }).await), Vec::<String>::new());
    let one = nodes.other.search_records(&Search { limit: 1, ..Search::default() }).await.unwrap();
    assert_eq!(kinds(one), ["policy-denial"]);
}

pub async fn old_records_are_forgotten_and_the_rest_still_verifies(nodes: Nodes) {
    let entries: Vec<Entry> =
        (0..1300).map(|number| sealed_at(NODE, Kind::Push, &number.to_string(), at(number))).collect();
    nodes.one.add_records(&entries).await.unwrap();
    let head = chain_all(&*nodes.one, NODE).await.unwrap();
    assert_eq!(forget(&*nodes.one, &keys(), &head, at(0), at(9000)).await.unwrap(), 0);
    assert_eq!(forget(&*nodes.one, &keys(), &head, at(700), at(9000)).await.unwrap(), 700);
    assert_eq!(forget(&*nodes.other, &keys(), &head, at(1000), at(9000)).await.unwrap(), 0, "somebody else was faster");
    let turned_back = keys().checkpoint(NODE, 600, head.link, at(9000), true);
    assert!(matches!(
        nodes.other.set_audit_base(None, &turned_back).await,
        Err(portcullis_tenancy::StoreError::Changed)
    ));
    let head = nodes.other.audit_head(NODE).await.unwrap().unwrap();
    assert_eq!(head.base.as_ref().map(|base| base.count), Some(700));
    assert_eq!(verified(&*nodes.other, NODE).await.seen, 600);
    nodes.one.add_records(&[sealed_at(NODE, Kind::Push, "after", at(8000))]).await.unwrap();
    let head = chain_all(&*nodes.one, NODE).await.unwrap();
    assert_eq!(forget(&*nodes.one, &keys(), &head, at(5000), at(9001)).await.unwrap(), 600);
    let verified = verified(&*nodes.other, NODE).await;
    assert_eq!((verified.count, verified.seen), (1301, 1));
}
