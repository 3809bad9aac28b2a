//! The ledger's account: what is charged, reserved, refused and given back.

use super::*;
use portcullis_tenancy::StoreError;
use portcullis_tenancy::ledger::{JournalEntry, JournalStep, Removed, Standing};
use portcullis_tenancy::quota::{Account, Claim, Decision, Lease, MAX_BYTES, Purpose, QuotaRequest, Unpaid};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn claim(project: &Project, id: &str, at_least: u64, at_most: u64) -> Claim {
    Claim {
        id: id.into(),
        project: project.id.clone(),
        robot: None,
        purpose: Purpose::Upload,
        at_least,
        at_most,
        now: at(0),
        expires_at: at(600),
        pins: Vec::new(),
        journal: None,
        waiting_percent: None,
        lock_until: None,
        lease: None,
    }
}

pub(super) fn held(admission: &Admission) -> Option<u64> {
    match admission {
        Admission::Granted { held, .. } => Some(*held),
        _ => None,
    }
}

pub(super) async fn account(nodes: &Nodes, project: &Project) -> Account {
    let (counted, recorded) = nodes.one.recount(&project.id, false).await.unwrap();
    assert_eq!(counted, recorded, "the counter is the sum of the rows");
    nodes.other.account(&project.id).await.unwrap()
}

/// An image of a config and these layers, one of them of 100 bytes each.
fn image(project: &Project, repository: &str, of: &str, layers: &[&str]) -> PushedManifest {
    let mut push = pushed(project, repository, of, &["latest"]);
    push.manifest.config = None;
    push.manifest.layers = layers.iter().map(|layer| descriptor(layer)).collect();
    push
}

pub(super) async fn bring(nodes: &Nodes, project: &Project, repository: &str, of: &str) -> Admission {
    hold(&*nodes.one, &project.id, &repo(repository), &digest(of), 100, Some("none"), at(1)).await.unwrap()
}

async fn push(nodes: &Nodes, push: &PushedManifest) -> Admission {
    nodes.one.add_manifest(push, &[], Charge::By("none")).await.unwrap()
}

async fn forget(nodes: &Nodes, project: &Project, repository: &str, of: &str) -> Removed {
    nodes.one.remove_manifest(&project.id, &repo(repository), &digest(of), at(30)).await.unwrap()
}

pub async fn an_account_counts_each_digest_once_and_gives_it_back(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    bring(&nodes, &acme, "acme/app", "shared").await;
    bring(&nodes, &acme, "acme/other", "shared").await;
    bring(&nodes, &acme, "acme/app", "own").await;
    assert_eq!(account(&nodes, &acme).await.committed, 200, "each digest once for the project");
    push(&nodes, &image(&acme, "acme/app", "m", &["shared", "own"])).await;
    push(&nodes, &image(&acme, "acme/other", "n", &["shared"])).await;
    push(&nodes, &image(&acme, "acme/other", "m", &["shared", "own"])).await;
    assert_eq!(account(&nodes, &acme).await.committed, 200 + 2 * 500, "and each manifest");

    let removed = forget(&nodes, &acme, "acme/other", "m").await;
    assert_eq!((removed.reclaimed, removed.uncharged.len()), (0, 0), "another repository has it still");
    let removed = forget(&nodes, &acme, "acme/app", "m").await;
    assert_eq!(removed.reclaimed, 600);
    assert_eq!(removed.uncharged, [digest("own")], "what another manifest names stays charged");
    assert_eq!(removed.tags, [tag("latest")]);
    assert_eq!(account(&nodes, &acme).await.committed, 600);
    assert_eq!(nodes.one.remove_link(&acme.id, &repo("acme/app"), &digest("shared")).await.unwrap(), 0);
    assert_eq!(nodes.one.remove_link(&acme.id, &repo("acme/other"), &digest("shared")).await.unwrap(), 100);
    assert_eq!(account(&nodes, &acme).await.committed, 500);
}

pub async fn a_reservation_grows_to_what_there_is_room_for_and_no_further(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    nodes.one.set_quota(&acme.id, Some(1000), Some(80)).await.unwrap();
    let reserve = async |id: &str, least, most| nodes.one.reserve(&claim(&acme, id, least, most)).await.unwrap();
    assert_eq!(held(&reserve("a", 100, 400).await), Some(400));
    assert_eq!(held(&reserve("a", 300, 300).await), Some(400), "it never shrinks by a claim");
    assert_eq!(held(&reserve("b", 500, 900).await), Some(600), "what there is room for");
    let Admission::Refused(shortage) = reserve("c", 1, 1).await else { panic!() };
    assert_eq!((shortage.asked, shortage.account.used(), shortage.total), (1, 1000, None));
    assert_eq!(held(&reserve("c", 0, 100).await), Some(0), "nothing is always there");
    assert!(account(&nodes, &acme).await.is_past_soft());

    nodes.one.shrink("b", 100, at(700)).await.unwrap();
    nodes.one.shrink("b", 300, at(700)).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 500);
    // What it turned out to be is charged, the rest comes back.
    let size = 350;
    let stored = hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("b"), size, Some("a"), at(1)).await.unwrap();
    assert_eq!(held(&stored), Some(0));
    let now = account(&nodes, &acme).await;
    assert_eq!((now.committed, now.reserved), (350, 100));
    // More than was reserved must have room.
    let Admission::Refused(shortage) =
        hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("c"), 651, Some("b"), at(1)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(shortage.asked, 551);
    assert_eq!(account(&nodes, &acme).await.reserved, 100, "a refusal changes nothing");
    nodes.one.release("b").await.unwrap();
    nodes.one.release("b").await.unwrap();
    assert_eq!(account(&nodes, &acme).await.reserved, 0);
    // What was there before it was counted is counted whatever the quota.
    hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("d"), 5000, None, at(1)).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.free(), Some(0));
    let gone = nodes.one.reserve(&claim(&project("gone"), "x", 1, 1)).await;
    assert!(matches!(gone, Err(StoreError::Missing)));
}

pub async fn of_many_claims_at_once_exactly_those_that_fit_are_granted(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    nodes.one.set_quota(&acme.id, Some(1000), None).await.unwrap();
    let mut claims = tokio::task::JoinSet::new();
    for number in 0..24 {
        let store = if number % 2 == 0 { Arc::clone(&nodes.one) } else { Arc::clone(&nodes.other) };
        let claim = claim(&acme, &number.to_string(), 130, 130);
        claims.spawn(async move { store.reserve(&claim).await.unwrap() });
    }
    let granted = claims.join_all().await.iter().filter(|admission| held(admission).is_some()).count();
    assert_eq!(granted, 7);
    assert_eq!(account(&nodes, &acme).await.reserved, 910);
}

pub async fn the_cap_over_all_projects_counts_all_of_them(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let globex = project("globex");
    nodes.one.add_project(&globex).await.unwrap();
    nodes.one.set_total(Some(1000)).await.unwrap();
    assert_eq!(held(&nodes.one.reserve(&claim(&acme, "a", 600, 600)).await.unwrap()), Some(600));
    let Admission::Refused(shortage) = nodes.one.reserve(&claim(&globex, "b", 500, 500)).await.unwrap() else {
        panic!()
    };
    assert_eq!(shortage.total, Some((1000, 600)));
    assert_eq!(held(&nodes.one.reserve(&claim(&globex, "b", 100, 500)).await.unwrap()), Some(400));
    let total = nodes.other.total().await.unwrap();
    assert_eq!((total.cap, total.committed, total.reserved), (Some(1000), 0, 1000));
    nodes.one.set_total(None).await.unwrap();
    assert!(held(&nodes.one.reserve(&claim(&globex, "c", 5000, 5000)).await.unwrap()).is_some());
}

pub async fn the_ends_of_what_can_be_counted_are_no_failures(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let (globex, late) = (project("globex"), project("late"));
    for project in [&globex, &late] {
        nodes.one.add_project(project).await.unwrap();
    }
    // A length is what a client says it is.
    for project in [&acme, &globex] {
        let all = claim(project, &project.name.to_string(), MAX_BYTES, u64::MAX);
        assert_eq!(held(&nodes.one.reserve(&all).await.unwrap()), Some(MAX_BYTES));
        let Admission::Refused(shortage) = nodes.one.reserve(&claim(project, "more", 1, 1)).await.unwrap() else {
            panic!()
        };
        assert_eq!((shortage.account.quota, shortage.account.reserved), (None, MAX_BYTES));
    }
    assert!(held(&nodes.one.reserve(&claim(&late, "longer", MAX_BYTES + 1, u64::MAX)).await.unwrap()).is_none());
    nodes.one.set_total(Some(MAX_BYTES)).await.unwrap();
    let total = nodes.other.total().await.unwrap();
    assert_eq!((total.cap, total.committed, total.reserved), (Some(MAX_BYTES), 0, 2 * MAX_BYTES));
    let Admission::Refused(shortage) = nodes.one.reserve(&claim(&late, "late", 1, 1)).await.unwrap() else { panic!() };
    assert_eq!(shortage.total, Some((MAX_BYTES, 2 * MAX_BYTES)));
    nodes.one.set_total(None).await.unwrap();

    nodes.one.set_quota(&late.id, Some(MAX_BYTES), Some(100)).await.unwrap();
    assert_eq!(held(&nodes.one.reserve(&claim(&late, "a", 10, 10)).await.unwrap()), Some(10));
    // Less than is reserved by now: what is reserved may still come, and nothing besides.
    nodes.one.set_quota(&late.id, Some(0), None).await.unwrap();
    assert!(held(&nodes.one.reserve(&claim(&late, "a", 11, 20)).await.unwrap()).is_none());
    assert_eq!(held(&nodes.one.reserve(&claim(&late, "a", 0, 20)).await.unwrap()), Some(10));
    let came = hold(&*nodes.one, &late.id, &repo("late/app"), &digest("b"), 10, Some("a"), at(1)).await.unwrap();
    assert_eq!(held(&came), Some(0));
    assert_eq!(held(&nodes.one.reserve(&claim(&late, "none", 0, 0)).await.unwrap()), Some(0));
    assert!(held(&nodes.one.reserve(&claim(&late, "one", 1, 1)).await.unwrap()).is_none());
    assert_eq!(account(&nodes, &late).await.committed, 10);
}

pub async fn a_manifest_of_very_many_layers_is_admitted_where_it_just_fits(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let names: Vec<String> = (0..4096).map(|number| format!("layer {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let image = image(&acme, "acme/app", "m", &names);
    let layers: Vec<Digest> = names.iter().map(|name| digest(name)).collect();
    let sizes: Vec<(Digest, u64)> = layers.iter().map(|layer| (layer.clone(), 10)).collect();
    let wish =
        |id: &str| Claim { purpose: Purpose::Manifest, pins: layers.clone(), ..claim(&acme, id, 41_460, 41_460) };
    nodes.one.set_quota(&acme.id, Some(41_459), None).await.unwrap();
    assert!(held(&nodes.one.reserve(&wish("refused")).await.unwrap()).is_none());
    nodes.one.set_quota(&acme.id, Some(41_460), None).await.unwrap();
    assert_eq!(held(&nodes.one.reserve(&wish("push")).await.unwrap()), Some(41_460));
    assert!(held(&nodes.one.add_manifest(&image, &sizes, Charge::By("push")).await.unwrap()).is_some());
    assert_eq!(account(&nodes, &acme).await.used(), 41_460);
    // All of them waited for a manifest, and are named again.
    assert_eq!(forget(&nodes, &acme, "acme/app", "m").await.reclaimed, 41_460);
    assert!(held(&push(&nodes, &image).await).is_some());
    assert_eq!(account(&nodes, &acme).await.used(), 41_460);
}

pub async fn what_is_not_charged_is_not_held_until_it_is_named_again(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    bring(&nodes, &acme, "acme/app", "layer").await;
    push(&nodes, &image(&acme, "acme/app", "m", &["layer"])).await;
    let standing = async || nodes.other.standing(&acme.id, &app, &digest("layer")).await.unwrap();
    assert_eq!(standing().await, Standing::Held { orphan_since: None });
    forget(&nodes, &acme, "acme/app", "m").await;
    assert_eq!(standing().await, Standing::Uncharged);
    let unpaid = nodes.one.unpaid(&acme.id, Some(&digest("m")), &[digest("layer"), digest("?")]).await.unwrap();
    assert_eq!(unpaid, Unpaid { knows_manifest: false, bytes: 100, unknown: vec![digest("?")] });
    assert!(nodes.one.stored_sizes(&acme.id, &[digest("layer")]).await.unwrap().is_empty());

    // Named again without room for it, it stays as it is.
    nodes.one.set_quota(&acme.id, Some(550), None).await.unwrap();
    assert!(held(&push(&nodes, &image(&acme, "acme/app", "n", &["layer"])).await).is_none());
    assert_eq!(standing().await, Standing::Uncharged);
    nodes.one.set_quota(&acme.id, Some(600), None).await.unwrap();
    assert!(held(&push(&nodes, &image(&acme, "acme/app", "n", &["layer"])).await).is_some());
    assert_eq!(standing().await, Standing::Held { orphan_since: None });
    assert_eq!(account(&nodes, &acme).await.committed, 600);

    // What the ledger never saw is charged at the size that the upstream states.
    nodes.one.set_quota(&acme.id, None, None).await.unwrap();
    let other = image(&acme, "acme/app", "o", &["unseen"]);
    nodes.one.add_manifest(&other, &[(digest("unseen"), 77)], Charge::By("none")).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.committed, 600 + 500 + 77);
}

pub async fn what_a_pushed_manifest_names_is_in_its_repository(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    for of in ["layer", "gone", "foreign"] {
        bring(&nodes, &acme, "acme/app", of).await;
    }
    nodes.one.expire_orphans(at(2), at(2), 10).await.unwrap();
    let mut push_of_copy = image(&acme, "acme/copy", "m", &["layer", "gone", "foreign"]);
    push_of_copy.manifest.layers[2].media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    assert!(held(&push(&nodes, &push_of_copy).await).is_some());
    let copy = repo("acme/copy");
    let links = async |of: &str| nodes.other.has_link(&acme.id, &copy, &digest(of)).await.unwrap();
    assert!(links("layer").await && links("gone").await);
    assert!(!links("foreign").await, "nobody had to show that he has it");
    assert_eq!(account(&nodes, &acme).await.committed, 800);
    // What a walk finds it asks for one by one.
    let walked = image(&acme, "acme/walked", "m", &["layer"]);
    nodes.one.add_manifest(&walked, &[], Charge::Anyway).await.unwrap();
    assert!(!nodes.other.has_link(&acme.id, &repo("acme/walked"), &digest("layer")).await.unwrap());
}

pub async fn a_manifest_counts_once_at_the_largest_size_on_record(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let record = async |repository: &str, size: u64| {
        let mut push = image(&acme, repository, "m", &[]);
        push.manifest.size = size;
        nodes.one.add_manifest(&push, &[], Charge::Anyway).await.unwrap();
        account(&nodes, &acme).await.committed
    };
    assert_eq!(record("acme/app", 500).await, 500);
    assert_eq!(record("acme/app", 700).await, 700);
    assert_eq!(record("acme/copy", 300).await, 700);
    assert_eq!(record("acme/app", 400).await, 400);
    assert_eq!(forget(&nodes, &acme, "acme/app", "m").await.reclaimed, 100);
    assert_eq!(account(&nodes, &acme).await.committed, 300);
    assert_eq!(record("acme/copy", 200).await, 200);
    assert_eq!(forget(&nodes, &acme, "acme/copy", "m").await.reclaimed, 200);
    assert_eq!(account(&nodes, &acme).await.committed, 0);
}

pub async fn what_a_manifest_under_way_names_stays_charged(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    bring(&nodes, &acme, "acme/app", "layer").await;
    push(&nodes, &image(&acme, "acme/app", "m", &["layer"])).await;
    let mut under_way = claim(&acme, "push", 500, 500);
    under_way.pins = vec![digest("layer")];
    nodes.one.reserve(&under_way).await.unwrap();
    assert_eq!(forget(&nodes, &acme, "acme/app", "m").await.reclaimed, 500, "the layer stays");
    assert!(nodes.one.expire_orphans(at(999), at(999), 10).await.unwrap().is_empty());
    let image = image(&acme, "acme/app", "n", &["layer"]);
    assert!(held(&nodes.one.add_manifest(&image, &[], Charge::By("push")).await.unwrap()).is_some());
    let now = account(&nodes, &acme).await;
    assert_eq!((now.committed, now.reserved), (600, 0));
    assert!(nodes.one.expire_orphans(at(999), at(999), 10).await.unwrap().is_empty(), "it is named");
    // Where the push comes to nothing, it waits like any other.
    nodes.one.reserve(&Claim { id: "again".into(), ..under_way }).await.unwrap();
    forget(&nodes, &acme, "acme/app", "n").await;
    nodes.one.release("again").await.unwrap();
    assert_eq!(nodes.one.expire_orphans(at(999), at(999), 10).await.unwrap().len(), 1);
    assert_eq!(account(&nodes, &acme).await.committed, 0);
}

pub async fn an_orphan_waits_for_its_grace_and_a_look_at_it_renews_it(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    for of in ["named", "old", "looked-at"] {
        bring(&nodes, &acme, "acme/app", of).await;
    }
    push(&nodes, &image(&acme, "acme/app", "m", &["named"])).await;
    nodes.one.renew_orphan(&acme.id, &digest("looked-at"), at(100)).await.unwrap();
    assert!(nodes.one.expire_orphans(at(1), at(50), 10).await.unwrap().is_empty(), "the grace is not over");
    let expired = nodes.one.expire_orphans(at(2), at(50), 10).await.unwrap();
    assert_eq!(expired, [(acme.id.clone(), digest("old"), 100)]);
    assert_eq!(nodes.one.breakdown(&acme.id, 10).await.unwrap().reclaimable, 100);
    assert_eq!(account(&nodes, &acme).await.committed, 700);
    assert_eq!(nodes.one.standing(&acme.id, &app, &digest("old")).await.unwrap(), Standing::Uncharged);
    // An upload of it charges it again.
    bring(&nodes, &acme, "acme/app", "old").await;
    assert_eq!(account(&nodes, &acme).await.committed, 800);
}

pub async fn what_is_taken_away_upstream_cannot_be_charged_meanwhile(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    for repository in ["acme/app", "acme/copy"] {
        hold(&*nodes.one, &acme.id, &repo(repository), &digest("b"), 100, Some("none"), at(1)).await.unwrap();
    }
    nodes.one.expire_orphans(at(2), at(2), 10).await.unwrap();
    let take =
        async |before, now, until| nodes.one.take_unlinkable(at(before), at(now), at(until), None).await.unwrap();
    assert_eq!(take(2, 10, 70).await, None, "the grace is not over");
    let taken = take(3, 10, 70).await.unwrap();
    assert_eq!(taken.repositories, [repo("acme/app"), repo("acme/copy")]);
    assert_eq!(take(3, 20, 80).await, None, "somebody is at it");
    let again = async |second| {
        hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("b"), 100, Some("none"), at(second)).await.unwrap()
    };
    assert_eq!(again(20).await, Admission::Busy);
    let named = Claim { pins: vec![digest("b")], now: at(20), ..claim(&acme, "named", 1, 1) };
    assert_eq!(nodes.one.reserve(&named).await.unwrap(), Admission::Busy);
    assert_eq!(push(&nodes, &image(&acme, "acme/app", "m", &["b"])).await, Admission::Busy);
    // Whoever was at it died: it may be charged again, and is not taken away any more.
    assert!(held(&again(71).await).is_some());
    nodes.one.unlinked(&acme.id, &digest("b"), true).await.unwrap();
    assert_eq!(account(&nodes, &acme).await.committed, 100);

    // What the upstream does not let go stays unserved, and is left alone.
    nodes.one.expire_orphans(at(72), at(72), 10).await.unwrap();
    take(73, 80, 90).await.unwrap();
    nodes.one.unlinked(&acme.id, &digest("b"), false).await.unwrap();
    assert_eq!(nodes.one.standing(&acme.id, &repo("acme/app"), &digest("b")).await.unwrap(), Standing::Uncharged);
    assert_eq!(take(999, 999, 1000).await, None);
    assert!(held(&again(1000).await).is_some());
    nodes.one.expire_orphans(at(1001), at(1001), 10).await.unwrap();
    take(1002, 1003, 1010).await.unwrap();
    nodes.one.unlinked(&acme.id, &digest("b"), true).await.unwrap();
    assert_eq!(nodes.one.standing(&acme.id, &repo("acme/app"), &digest("b")).await.unwrap(), Standing::Unknown);
}

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

pub async fn many_writes_at_once_are_all_there_and_one_that_is_given_up_takes_none_along(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    nodes.one.set_quota(&acme.id, Some(1000), None).await.unwrap();
    let claims: Vec<_> = (0..40)
        .map(|number| {
            let (store, claim) = (Arc::clone(&nodes.one), claim(&acme, &format!("c{number}"), 50, 50));
            tokio::spawn(async move {
                if number % 4 == 3 {
                    // Whoever asks is gone before there is an answer.
                    let pause = std::time::Duration::from_micros(number * 50);
                    let _ = tokio::time::timeout(pause, store.reserve(&claim)).await;
                    return false;
                }
                held(&store.reserve(&claim).await.unwrap()).is_some()
            })
        })
        .collect();
    let mut granted = 0;
    for claim in claims {
        granted += u64::from(claim.await.unwrap());
    }
    let held = account(&nodes, &acme).await.reserved;
    assert!(held <= 1000 && held >= granted * 50 && held.is_multiple_of(50), "{granted} granted, {held} held");
}

pub async fn what_may_not_stay_is_on_record_and_not_served(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let of = |repository: &str, blob: &str| StoredBlob {
        project: acme.id.clone(),
        repository: repo(repository),
        digest: digest(blob),
        size: 100,
        at: at(1),
    };
    nodes.one.reserve(&claim(&acme, "refused", 100, 100)).await.unwrap();
    nodes.one.disown(&of("acme/app", "new"), "refused").await.unwrap();
    let now = account(&nodes, &acme).await;
    assert_eq!((now.committed, now.reserved), (0, 0));
    let standing = async |blob: &str| nodes.other.standing(&acme.id, &repo("acme/app"), &digest(blob)).await.unwrap();
    assert_eq!(standing("new").await, Standing::Uncharged);
    assert!(nodes.one.take_unlinkable(at(2), at(2), at(9), None).await.unwrap().is_some(), "it is taken away");
    // From another repository it would be missed by whoever is at it.
    let elsewhere = StoredBlob { at: at(3), ..of("acme/copy", "new") };
    nodes.one.disown(&elsewhere, "none").await.unwrap();
    assert!(!nodes.other.has_link(&acme.id, &repo("acme/copy"), &digest("new")).await.unwrap());
    // What the project is charged with stays what it is.
    bring(&nodes, &acme, "acme/other", "paid").await;
    nodes.one.disown(&of("acme/app", "paid"), "none").await.unwrap();
    assert!(matches!(standing("paid").await, Standing::Held { .. }));
    assert_eq!(account(&nodes, &acme).await.committed, 100);
}

pub async fn a_request_is_decided_once(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let mut wish = QuotaRequest {
        id: "r1".into(),
        project: acme.id.clone(),
        bytes: 50 << 30,
        reason: "nightly images".into(),
        requested_at: at(1),
        requested_by: "alice".into(),
        decision: None,
    };
    nodes.one.add_quota_request(&wish).await.unwrap();
    assert_eq!(nodes.other.quota_requests(Some(&acme.id)).await.unwrap(), [wish.clone()]);
    let decision = Decision { granted: Some(40 << 30), reason: Some("for now".into()), at: at(2), by: "bob".into() };
    wish.decision = Some(decision.clone());
    assert_eq!(nodes.one.decide_quota_request("r1", &decision).await.unwrap(), wish);
    assert_eq!(nodes.other.account(&acme.id).await.unwrap().quota, Some(40 << 30));
    let late = Decision { granted: None, ..decision };
    assert!(matches!(nodes.one.decide_quota_request("r1", &late).await, Err(StoreError::Missing)));
    assert_eq!(nodes.other.quota_requests(None).await.unwrap(), [wish]);
}

pub async fn maintenance_is_a_rule(nodes: Nodes) {
    assert_eq!(nodes.one.maintenance().await.unwrap(), None);
    let before = nodes.one.generation().await.unwrap();
    nodes.one.set_maintenance(Some(at(5))).await.unwrap();
    assert_eq!(nodes.other.maintenance().await.unwrap(), Some(at(5)));
    assert!(nodes.other.generation().await.unwrap() > before);
    nodes.one.set_maintenance(None).await.unwrap();
    assert_eq!(nodes.other.maintenance().await.unwrap(), None);
}

/// A source of steps that repeats from seed to seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What is done next: which kind of step, in which repository, and to which blobs or operations.
type Step = [u64; 6];

/// The quota of every run.
const ROOM: u64 = 4000;

/// What must be on record, kept by itself.
#[derive(Default)]
struct Model {
    links: BTreeSet<(u64, u64)>,
    charged: BTreeSet<u64>,
    images: BTreeMap<(u64, String), Vec<u64>>,
    reserved: BTreeMap<u64, u64>,
}

/// Random steps beside a model that sums everything up anew after each. Of a run that fails the shortest one is told that still
/// does; `SEED` repeats it.
pub async fn any_interleaving_leaves_the_counters_at_the_sums(nodes: Nodes) {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut dice = Dice(seed);
    let steps = (0..400).map(|_| [6, 2, 8, 8, 900, 1500].map(|sides| dice.roll(sides)));
    let mut steps: Vec<Step> = steps.collect();
    let mut runs = 0;
    let Err(mut failure) = run_through(&nodes, &steps, &mut runs).await else { return };
    // Takes ever smaller parts out for as long as it fails without them.
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut from = 0;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            match run_through(&nodes, &fewer, &mut runs).await {
                Err(still) => (steps, failure) = (fewer, still),
                Ok(()) => from += part,
            }
        }
        part /= 2;
    }
    panic!("SEED={seed}: {failure}, after {steps:?}");
}

/// Takes the steps in a project of their own.
async fn run_through(nodes: &Nodes, steps: &[Step], runs: &mut u32) -> std::result::Result<(), String> {
    *runs += 1;
    let acme = project(&format!("run-{runs}"));
    nodes.one.add_project(&acme).await.unwrap();
    nodes.one.set_quota(&acme.id, Some(ROOM), None).await.unwrap();
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        model.take(nodes, &acme, step, at(number.try_into().unwrap())).await;
        let counted = nodes.one.recount(&acme.id, false).await.unwrap();
        let account = nodes.other.account(&acme.id).await.unwrap();
        let expected = (model.committed(), model.reserved.values().sum::<u64>(), model.waiting());
        if (account.committed, account.reserved, account.waiting) != expected
            || counted.0 != counted.1
            || account.used() > ROOM
        {
            return Err(format!("step {number}: {account:?}, recounted {counted:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

fn size(blob: u64) -> u64 {
    100 + 10 * blob
}

impl Model {
    fn committed(&self) -> u64 {
        let manifests: BTreeSet<&String> = self.images.keys().map(|(_, of)| of).collect();
        self.charged.iter().map(|blob| size(*blob)).sum::<u64>() + 500 * manifests.len() as u64
    }

    /// What is held and not charged.
    fn waiting(&self) -> u64 {
        let held: BTreeSet<u64> = self.links.iter().map(|(_, blob)| *blob).collect();
        held.difference(&self.charged).map(|blob| size(*blob)).sum()
    }

    async fn take(&mut self, nodes: &Nodes, acme: &Project, step: &Step, now: Timestamp) {
        let [kind, repository, blob, other, least, most] = *step;
        let name = format!("{}/r{repository}", acme.name);
        let operation = format!("{}-{}", acme.name, other % 4);
        match kind {
            0 => {
                let admission = nodes.one.reserve(&claim(acme, &operation, least, most)).await.unwrap();
                if let Some(held) = held(&admission) {
                    assert!(held >= least);
                    self.reserved.insert(other % 4, held);
                }
            }
            1 => {
                nodes.other.release(&operation).await.unwrap();
                self.reserved.remove(&(other % 4));
            }
            2 => {
                let (app, of) = (repo(&name), digest(&format!("b{blob}")));
                let stored = hold(&*nodes.one, &acme.id, &app, &of, size(blob), Some(&operation), now).await.unwrap();
                if held(&stored).is_some() {
                    self.reserved.remove(&(other % 4));
                    self.links.insert((repository, blob));
                    self.charged.insert(blob);
                }
            }
            3 => self.push(nodes, acme, repository, [blob, other]).await,
            4 => self.forget(nodes, acme, blob).await,
            _ => {
                nodes.one.remove_link(&acme.id, &repo(&name), &digest(&format!("b{blob}"))).await.unwrap();
                self.links.remove(&(repository, blob));
                if !self.links.iter().any(|(_, linked)| *linked == blob) {
                    self.charged.remove(&blob);
                }
            }
        }
    }

    /// An image of those of the blobs that are there; its layers say which it is.
    async fn push(&mut self, nodes: &Nodes, acme: &Project, repository: u64, blobs: [u64; 2]) {
        let is_there = |blob: &u64| self.links.iter().any(|(_, linked)| linked == blob);
        let layers: Vec<u64> = BTreeSet::from(blobs).into_iter().filter(is_there).collect();
        let names: Vec<String> = layers.iter().map(|blob| format!("b{blob}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of = format!("m{layers:?}");
        let image = image(acme, &format!("{}/r{repository}", acme.name), &of, &names);
        if held(&push(nodes, &image).await).is_some() {
            self.charged.extend(&layers);
            self.links.extend(layers.iter().map(|layer| (repository, *layer)));
            self.images.insert((repository, of), layers);
        }
    }

    async fn forget(&mut self, nodes: &Nodes, acme: &Project, which: u64) {
        let Some(key) = self.images.keys().nth(usize::try_from(which).unwrap()).cloned() else { return };
        let layers = self.images.remove(&key).unwrap_or_default();
        forget(nodes, acme, &format!("{}/r{}", acme.name, key.0), &key.1).await;
        for layer in layers {
            if !self.images.values().any(|named| named.contains(&layer)) {
                self.charged.remove(&layer);
            }
        }
    }
}
