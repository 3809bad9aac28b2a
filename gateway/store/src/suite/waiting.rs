//! What is not charged any more and is still upstream: it is bounded, and no project keeps another one waiting.

use super::quota::{account, bring, claim, held};
use super::*;
use portcullis_tenancy::quota::Claim;

pub async fn what_was_deleted_takes_up_room_until_it_is_taken_away(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    nodes.one.set_quota(&acme.id, Some(1000), None).await.unwrap();
    let waiting = async || account(&nodes, &acme).await.waiting;
    let half = |id: &str, least, most| Claim { waiting_percent: Some(50), ..claim(&acme, id, least, most) };
    for of in ["a", "b", "c"] {
        hold(&*nodes.one, &acme.id, &app, &digest(of), 400, None, at(1)).await.unwrap();
    }
    nodes.one.expire_orphans(at(2), at(2), 10).await.unwrap();
    assert_eq!(waiting().await, 1200);

    // Of 1500 in all there are 300 left.
    let Admission::Refused(shortage) = nodes.one.reserve(&half("x", 301, 301)).await.unwrap() else { panic!() };
    assert_eq!((shortage.waits, shortage.asked, shortage.account.waiting), (true, 301, 1200));
    assert_eq!(held(&nodes.one.reserve(&half("x", 100, 900)).await.unwrap()), Some(300));
    let unbounded = claim(&acme, "y", 500, 500);
    assert_eq!(held(&nodes.one.reserve(&unbounded).await.unwrap()), Some(500), "where nobody sees it go");
    nodes.one.release("x").await.unwrap();
    nodes.one.release("y").await.unwrap();
    // What a manifest charges again is there already.
    let named = Claim { pins: vec![digest("a"), digest("b")], ..half("z", 900, 900) };
    assert_eq!(held(&nodes.one.reserve(&named).await.unwrap()), Some(900));
    nodes.one.release("z").await.unwrap();
    // With a blob besides that only the upstream knows, in two steps: what is there already counts once.
    let pins = vec![digest("a"), digest("?")];
    let manifest = Claim { pins, manifest: Some((digest("m"), 10)), ..half("m", 0, 0) };
    let Admission::Granted { held: 410, unknown, .. } = nodes.one.reserve(&manifest).await.unwrap() else { panic!() };
    assert_eq!(unknown, [digest("?")]);
    let with = |bytes| Claim { at_least: bytes, at_most: bytes, ..manifest.clone() };
    let Admission::Refused(shortage) = nodes.one.reserve(&with(291)).await.unwrap() else { panic!() };
    assert_eq!((shortage.waits, shortage.asked), (true, 291));
    assert_eq!(held(&nodes.one.reserve(&with(290)).await.unwrap()), Some(700));
    nodes.one.release("m").await.unwrap();

    hold(&*nodes.one, &acme.id, &app, &digest("a"), 400, None, at(3)).await.unwrap();
    assert_eq!(waiting().await, 800);
    for (is_gone, left) in [(true, 400), (false, 0)] {
        let blob = nodes.one.take_unlinkable(at(3), at(4), at(9), None).await.unwrap().unwrap();
        nodes.one.unlinked(&acme.id, &blob.digest, is_gone).await.unwrap();
        assert_eq!(waiting().await, left, "what the upstream keeps is not waited for");
    }
    hold(&*nodes.one, &acme.id, &app, &digest("c"), 400, None, at(5)).await.unwrap();
    assert_eq!(waiting().await, 0);
    nodes.one.expire_orphans(at(6), at(6), 10).await.unwrap();
    assert_eq!(waiting().await, 800);
    nodes.one.remove_link(&acme.id, &app, &digest("a")).await.unwrap();
    assert_eq!(waiting().await, 400);
    nodes.one.recount(&acme.id, true).await.unwrap();
    assert_eq!(waiting().await, 400);
}

pub async fn projects_take_turns_with_what_is_taken_away(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let globex = project("globex");
    nodes.one.add_project(&globex).await.unwrap();
    for of in ["a", "b", "c"] {
        bring(&nodes, &acme, "acme/app", of).await;
    }
    hold(&*nodes.one, &globex.id, &repo("globex/app"), &digest("d"), 100, None, at(2)).await.unwrap();
    let of = |all: Vec<(ProjectId, Digest, u64)>| all.into_iter().map(|(project, ..)| project).collect::<Vec<_>>();
    let expired = of(nodes.one.expire_orphans(at(9), at(9), 2).await.unwrap());
    assert_eq!(expired, [acme.id.clone(), globex.id.clone()], "each as many");
    assert_eq!(of(nodes.one.expire_orphans(at(9), at(9), 2).await.unwrap()), [acme.id.clone(), acme.id.clone()]);

    for (id, project, started) in [("1", &acme, 1), ("2", &acme, 2), ("3", &acme, 3), ("4", &globex, 4)] {
        let begun = Upload { project: project.id.clone(), started_at: at(started), ..upload(id, &ci, "acme/app") };
        nodes.one.open_upload(&Upload { expires_at: at(5), ..begun }).await.unwrap();
    }
    let ended = nodes.one.ended_uploads(at(9), 3).await.unwrap();
    assert_eq!(ended.iter().map(|upload| &*upload.id).collect::<Vec<_>>(), ["1", "4", "2"]);

    let mut turns = Vec::new();
    let mut after: Option<ProjectId> = None;
    while let Some(blob) = nodes.one.take_unlinkable(at(10), at(10), at(20), after.as_ref()).await.unwrap() {
        turns.push(blob.project.clone());
        after = Some(blob.project);
    }
    assert_eq!(turns, [&acme.id, &globex.id, &acme.id, &acme.id].map(ProjectId::clone));
}
