//! What is charged, what is not any more, and what becomes of it then.

use super::quota::{account, bring, claim, forget, held, image, push};
use super::*;
use portcullis_tenancy::ledger::Standing;
use portcullis_tenancy::quota::{Claim, Purpose, Unpaid};

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
    // A claim for a manifest counts the same by itself; what is there already takes up nothing more.
    let layers = |names: &[&str]| names.iter().map(|name| digest(name)).collect();
    let named = |id: &str, of: &str, pins: Vec<Digest>| Claim {
        purpose: Purpose::Manifest,
        pins,
        manifest: Some((digest(of), 500)),
        ..claim(&acme, id, 0, 0)
    };
    let all = nodes.one.reserve(&named("all", "n", layers(&["layer", "?"]))).await.unwrap();
    let Admission::Granted { held: 600, unknown, .. } = all else { panic!("{all:?}") };
    assert_eq!(unknown, [digest("?")]);
    nodes.one.set_quota(&acme.id, Some(1100), None).await.unwrap();
    let refused = nodes.one.reserve(&named("refused", "o", layers(&["layer"]))).await.unwrap();
    let Admission::Refused(shortage) = refused else { panic!("{refused:?}") };
    assert_eq!(shortage.asked, 600);
    nodes.one.release("all").await.unwrap();
    nodes.one.set_quota(&acme.id, None, None).await.unwrap();
    push(&nodes, &image(&acme, "acme/app", "known", &[])).await;
    assert_eq!(held(&nodes.one.reserve(&named("again", "known", Vec::new())).await.unwrap()), Some(0));
    nodes.one.release("again").await.unwrap();
    forget(&nodes, &acme, "acme/app", "known").await;

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
