//! The ledger's account: what is reserved, refused and given back.

use super::*;
use portcullis_tenancy::StoreError;
use portcullis_tenancy::ledger::Removed;
use portcullis_tenancy::quota::{Account, Claim, Decision, MAX_BYTES, Purpose, QuotaRequest};

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
        manifest: None,
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
pub(crate) fn image(project: &Project, repository: &str, of: &str, layers: &[&str]) -> PushedManifest {
    let mut push = pushed(project, repository, of, &["latest"]);
    push.manifest.config = None;
    push.manifest.layers = layers.iter().map(|layer| descriptor(layer)).collect();
    push
}

pub(super) async fn bring(nodes: &Nodes, project: &Project, repository: &str, of: &str) -> Admission {
    hold(&*nodes.one, &project.id, &repo(repository), &digest(of), 100, Some("none"), at(1)).await.unwrap()
}

pub(super) async fn push(nodes: &Nodes, push: &PushedManifest) -> Admission {
    nodes.one.add_manifest(push, &[], Charge::By("none")).await.unwrap()
}

pub(super) async fn forget(nodes: &Nodes, project: &Project, repository: &str, of: &str) -> Removed {
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

    nodes.one.shrink("b", "one", 100, at(700)).await.unwrap();
    nodes.one.shrink("b", "one", 300, at(700)).await.unwrap();
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
