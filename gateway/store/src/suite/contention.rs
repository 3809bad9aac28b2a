//! Two nodes at once.

use super::quota::claim;
use super::*;
use portcullis_tenancy::StoreError;
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::quota::{Claim, Purpose};
use std::future::Future;

/// Runs the calls at once, every other one on the other node.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    nodes: &Nodes,
    count: usize,
    mut call: impl FnMut(usize, Arc<dyn Store>) -> F,
) -> Vec<T> {
    let calls: Vec<_> = (0..count)
        .map(|number| tokio::spawn(call(number, Arc::clone(if number % 2 == 0 { &nodes.one } else { &nodes.other }))))
        .collect();
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    results
}

pub async fn of_overlapping_prefixes_at_once_exactly_one_wins(nodes: Nodes) {
    for round in 0..5 {
        let results = at_once(&nodes, 8, |number, store| async move {
            // Each is above, below or equal to each other one.
            let prefix = format!("round{round}{}", "/deeper".repeat(number / 2));
            store.add_project(&project_at(&format!("p{round}-{number}"), &prefix)).await
        })
        .await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        let refused =
            results.iter().filter(|result| matches!(result, Err(StoreError::Taken("upstream prefix")))).count();
        assert_eq!((won, refused), (1, 7), "{results:?}");
    }
}

pub async fn of_one_name_at_once_exactly_one_wins(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let results = at_once(&nodes, 8, |number, store| {
        let mut robot = robot(&acme, "deploy");
        robot.id = RobotId(number.to_string().into());
        robot.secrets[0].id = format!("secret-{number}").into();
        robot.grants[0].id = format!("grant-{number}").into();
        async move { store.add_robot(&robot).await }
    })
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(
        results.iter().filter(|result| matches!(result, Err(StoreError::Taken("robot name")))).count(),
        7,
        "{results:?}"
    );
}

pub async fn generations_grow_one_by_one_and_a_change_is_seen_with_its_own(nodes: Nodes) {
    let start = nodes.one.generation().await.unwrap().0;
    let watch = tokio::spawn({
        let other = Arc::clone(&nodes.other);
        async move {
            let mut last = start;
            while last < start + 40 {
                let now = other.generation().await.unwrap().0;
                assert!(now >= last, "{now} after {last}");
                // What a generation stands for is there when the generation is.
                let there = other.projects().await.unwrap().len();
                assert!(i64::try_from(there).unwrap() >= now - start, "{there} projects at generation {now}");
                last = now;
            }
        }
    });
    at_once(
        &nodes,
        40,
        |number, store| async move { store.add_project(&project(&format!("p{number}"))).await.unwrap() },
    )
    .await;
    watch.await.unwrap();
    assert_eq!(nodes.one.generation().await.unwrap().0, start + 40);
}

pub async fn a_tag_is_locked_by_one_owner_at_a_time(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let lock = |store: Arc<dyn Store>, owner: String, now: i64, until: i64| {
        let id = acme.id.clone();
        async move { store.lock_tag(&id, &repo("acme/app"), &tag("latest"), &owner, at(now), at(until)).await.unwrap() }
    };
    let unlock =
        async |owner: &str| nodes.other.unlock_tag(&acme.id, &repo("acme/app"), &tag("latest"), owner).await.unwrap();
    let first = at_once(&nodes, 8, |number, store| lock(store, number.to_string(), 0, 10)).await;
    assert_eq!(first.iter().filter(|won| **won).count(), 1);
    let owner = first.iter().position(|won| *won).unwrap().to_string();

    assert!(!lock(Arc::clone(&nodes.other), "late".into(), 9, 20).await);
    unlock("late").await;
    assert!(!lock(Arc::clone(&nodes.other), "late".into(), 9, 20).await, "only its owner gives it back");
    assert!(lock(Arc::clone(&nodes.other), owner.clone(), 9, 15).await, "its owner may make it last longer");
    assert!(
        nodes.one.lock_tag(&acme.id, &repo("acme/app"), &tag("other"), "late", at(9), at(20)).await.unwrap(),
        "another tag is free"
    );

    let expired = at_once(&nodes, 8, |number, store| lock(store, format!("second-{number}"), 15, 30)).await;
    assert_eq!(expired.iter().filter(|won| **won).count(), 1, "one takes what has expired");
    unlock(&owner).await;
    assert!(!lock(Arc::clone(&nodes.one), "late".into(), 16, 20).await, "who lost it cannot give it back");
    unlock(&format!("second-{}", expired.iter().position(|won| *won).unwrap())).await;
    assert!(lock(Arc::clone(&nodes.one), "late".into(), 16, 20).await);
}

pub async fn records_of_one_repository_at_once_all_arrive(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    at_once(&nodes, 24, |number, store| {
        let acme = acme.clone();
        async move {
            let app = repo("acme/app");
            let mut tags = ["1", "2", "3", "4"];
            tags.rotate_left(number % 4);
            hold(&*store, &acme.id, &app, &digest("shared"), 5, None, at(1)).await.unwrap();
            hold(&*store, &acme.id, &repo("acme/come-and-go"), &digest("shared"), 5, None, at(1)).await.unwrap();
            store.remove_link(&acme.id, &repo("acme/come-and-go"), &digest("shared")).await.unwrap();
            store
                .add_manifest(&pushed(&acme, "acme/app", &(number % 3).to_string(), &tags), &[], Charge::Anyway)
                .await
                .unwrap();
            store.remove_manifest(&acme.id, &app, &digest("gone"), at(20)).await.unwrap();
        }
    })
    .await;
    assert!(nodes.one.has_link(&acme.id, &repo("acme/app"), &digest("shared")).await.unwrap());
    assert!(!nodes.one.has_link(&acme.id, &repo("acme/come-and-go"), &digest("shared")).await.unwrap());
    assert_eq!(nodes.one.manifests(&acme.id, &repo("acme/app")).await.unwrap().len(), 3);
    assert_eq!(nodes.one.tags(&acme.id, &repo("acme/app")).await.unwrap().len(), 4);
}

pub async fn manifests_that_come_and_go_leave_no_tag_behind(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    at_once(&nodes, 96, |number, store| {
        let acme = acme.clone();
        // Two manifests that take the tags from each other, while both are removed.
        let of = if number % 4 < 2 { "m" } else { "n" };
        let mut tags = ["a", "b", "c", "d"];
        tags.rotate_left(number % 3);
        async move {
            if number % 8 < 5 {
                store.add_manifest(&pushed(&acme, "acme/app", of, &tags), &[], Charge::Anyway).await.unwrap();
            } else {
                store.remove_manifest(&acme.id, &repo("acme/app"), &digest(of), at(20)).await.unwrap();
            }
        }
    })
    .await;
    for of in ["m", "n"] {
        nodes.one.remove_manifest(&acme.id, &repo("acme/app"), &digest(of), at(20)).await.unwrap();
    }
    assert!(nodes.one.tags(&acme.id, &repo("acme/app")).await.unwrap().is_empty());
}

pub async fn uses_and_rotations_at_once_do_not_stop_each_other(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let robots: Vec<Robot> = (0..6).map(|number| robot(&acme, &format!("r{number}"))).collect();
    for robot in &robots {
        nodes.one.add_robot(robot).await.unwrap();
    }
    let mut uses: Vec<(Box<str>, Timestamp)> =
        robots.iter().map(|robot| (robot.secrets[0].id.clone(), at(50))).collect();
    at_once(&nodes, 24, |number, store| {
        uses.rotate_left(1);
        let (uses, mut robot) = (uses.clone(), robots[number % 6].clone());
        async move {
            if number % 3 == 0 {
                let newest = robot.secrets[0].id.clone();
                robot.secrets.insert(0, secret(&format!("{}-next-{number}", robot.name), 2));
                // Whoever comes second is refused.
                let rotated = store.replace_secrets(&robot, &newest).await;
                assert!(matches!(rotated, Ok(()) | Err(StoreError::Taken(_))), "{rotated:?}");
            } else {
                store.note_use(&uses).await.unwrap();
            }
        }
    })
    .await;
    for robot in &robots {
        let used = nodes.one.robot(&robot.id).await.unwrap().unwrap();
        assert!(used.secrets.iter().any(|secret| secret.last_used_at == Some(at(50))), "{}", robot.name);
    }
}

/// Writes share a transaction, which takes the rows of uploads in the order in which they end; a deletion takes them in its own.
pub async fn a_deletion_and_the_ends_of_what_it_gives_up_do_not_stop_each_other(nodes: Nodes) {
    const UPLOADS: usize = 24;
    for round in 0..8 {
        let project = project(&format!("p{round}"));
        let (ci, app) = (robot(&project, "ci"), repo(&format!("p{round}/app")));
        nodes.one.add_project(&project).await.unwrap();
        nodes.one.add_robot(&ci).await.unwrap();
        for number in 0..=UPLOADS {
            nodes.one.open_upload(&upload(&format!("{round}-{number}"), &ci, app.as_str())).await.unwrap();
        }
        at_once(&nodes, UPLOADS + 1, |number, store| {
            let (project, ci, app) = (project.clone(), ci.id.clone(), app.clone());
            async move {
                let ended = if number != UPLOADS / 2 {
                    let (id, blob) = (format!("{round}-{}", UPLOADS - number), digest(&number.to_string()));
                    hold(&*store, &project.id, &app, &blob, 5, Some(&id), at(1)).await.map(|_| ())
                } else if round % 2 == 0 {
                    store.delete_robot(&ci).await
                } else {
                    store.delete_project(&project.id, at(2)).await
                };
                let is_over = round % 2 == 1 && matches!(ended, Err(StoreError::Missing));
                assert!(is_over || ended.is_ok(), "{ended:?}");
            }
        })
        .await;
    }
}

pub async fn a_sweep_and_pushes_that_take_what_it_sweeps_do_not_stop_each_other(nodes: Nodes) {
    const TAGS: usize = 40;
    let (acme, _) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let tags: Vec<_> = (0..TAGS).map(|number| tag(&format!("t{number}"))).collect();
    for round in 0..8 {
        // What nobody gave back, and is free again.
        let now = round * 10;
        for tag in &tags {
            assert!(nodes.one.lock_tag(&acme.id, &app, tag, "nobody", at(now), at(now + 1)).await.unwrap());
        }
        let (owners, sweeps) = (4, 8);
        at_once(&nodes, owners + sweeps, |number, store| {
            let id = format!("{round}-{number}");
            // The last is taken first.
            let tags: Vec<_> = tags.iter().rev().skip(number % owners).step_by(owners).cloned().collect();
            let journal = JournalEntry {
                id: id.as_str().into(),
                project: acme.id.clone(),
                repository: app.clone(),
                step: JournalStep::PutManifest { digest: digest(&id), tags },
                actor: "acme+ci".into(),
                started_at: at(now + 2),
            };
            let claim = claim(&acme, &id, 10, 10);
            async move {
                if number >= owners {
                    store.sweep(at(now + 2)).await.unwrap();
                    return;
                }
                let (purpose, lock_until) = (Purpose::Manifest, Some(at(now + 3)));
                let claim = Claim { purpose, lock_until, journal: Some(journal), ..claim };
                let admission = store.reserve(&claim).await.unwrap();
                assert!(matches!(admission, Admission::Granted { locked: true, .. }), "{admission:?}");
            }
        })
        .await;
    }
}
