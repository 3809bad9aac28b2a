//! What ends: uploads, scope sets, journal entries.

use super::quota::claim;
use super::*;
use portcullis_oci::Scope;
use portcullis_oci::scope::ScopeName;
use portcullis_tenancy::ledger::{JournalEntry, JournalStep};
use portcullis_tenancy::token::ScopeSet;

pub async fn an_upload_is_open_until_it_is_closed(nodes: Nodes) {
    let (_, ci) = acme(&*nodes.one).await;
    let open = upload("u", &ci, "acme/app");
    nodes.one.open_upload(&open).await.unwrap();
    assert!(nodes.one.open_upload(&open).await.is_err(), "an id is used once");
    assert_eq!(nodes.other.upload("u").await.unwrap(), Some(open));
    nodes.one.close_upload("u").await.unwrap();
    assert_eq!(nodes.other.upload("u").await.unwrap(), None);
    nodes.one.close_upload("u").await.unwrap();
}

pub async fn a_link_closes_the_upload_that_brought_it(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    nodes.one.open_upload(&upload("u", &ci, "acme/app")).await.unwrap();
    hold(&*nodes.one, &acme.id, &repo("acme/app"), &digest("b"), 7, Some("u"), at(1)).await.unwrap();
    assert_eq!(nodes.other.upload("u").await.unwrap(), None);
    assert!(nodes.other.has_link(&acme.id, &repo("acme/app"), &digest("b")).await.unwrap());
}

pub async fn a_scope_set_lives_as_long_as_its_latest_use(nodes: Nodes) {
    let scopes = vec![
        Scope::Repository {
            name: ScopeName::Repository(repo("acme/app")),
            actions: Actions::PULL.union(Actions::PUSH),
        },
        Scope::Repository {
            name: ScopeName::Pattern(RepositoryPattern::whole_project("globex")),
            actions: Actions::PULL,
        },
        Scope::Catalog,
    ];
    let projects = vec![("acme".into(), ProjectId("1".into())), ("globex".into(), ProjectId("2".into()))];
    let mut set = ScopeSet::new(scopes, projects, at(100));
    nodes.one.add_scope_set(&set).await.unwrap();
    assert_eq!(nodes.other.scope_set(&set.id).await.unwrap(), Some(set.clone()));
    assert_eq!(nodes.other.scope_set("another").await.unwrap(), None);
    set.expires_at = at(300);
    nodes.one.add_scope_set(&set).await.unwrap();
    nodes.one.add_scope_set(&ScopeSet { expires_at: at(200), ..set.clone() }).await.unwrap();
    assert_eq!(nodes.other.scope_set(&set.id).await.unwrap(), Some(set));
}

pub async fn a_sweep_takes_what_has_ended_and_nothing_else(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let app = repo("acme/app");
    let set = |id: &str, end| ScopeSet::new(vec![Scope::Catalog], vec![(id.into(), acme.id.clone())], at(end));
    for (id, end) in [("past", 10), ("now", 20), ("future", 30)] {
        nodes.one.open_upload(&Upload { expires_at: at(end), ..upload(id, &ci, "acme/app") }).await.unwrap();
        nodes.one.add_scope_set(&set(id, end)).await.unwrap();
        assert!(nodes.one.lock_tag(&acme.id, &app, &tag(id), "me", at(0), at(end)).await.unwrap());
    }
    assert_eq!(nodes.other.sweep(at(20)).await.unwrap(), 1);
    assert_eq!(nodes.other.sweep(at(20)).await.unwrap(), 0);
    // Uploads end upstream first.
    nodes.one.move_upload("past", "/v2/elsewhere").await.unwrap();
    let ended = nodes.other.ended_uploads(at(20), 10).await.unwrap();
    assert_eq!(
        ended.iter().map(|upload| (&*upload.id, upload.upstream.as_deref())).collect::<Vec<_>>(),
        [("past", Some("/v2/elsewhere"))]
    );
    nodes.one.close_upload("past").await.unwrap();
    assert!(nodes.other.ended_uploads(at(20), 10).await.unwrap().is_empty());
    for (id, there) in [("past", false), ("now", true), ("future", true)] {
        assert_eq!(nodes.one.scope_set(&set(id, 0).id).await.unwrap().is_some(), there, "{id}");
    }
    assert!(
        !nodes.one.lock_tag(&acme.id, &app, &tag("future"), "you", at(20), at(90)).await.unwrap(),
        "a lock that lasts is kept"
    );
}

pub async fn what_a_deleted_robot_or_project_left_under_way_is_given_up(nodes: Nodes) {
    let (acme, ci) = acme(&*nodes.one).await;
    let cd = robot(&acme, "cd");
    nodes.one.add_robot(&cd).await.unwrap();
    for (id, robot) in [("of-ci", &ci), ("of-cd", &cd)] {
        nodes.one.open_upload(&upload(id, robot, "acme/app")).await.unwrap();
        nodes.one.reserve(&claim(&acme, id, 10, 10)).await.unwrap();
    }
    let left = async || {
        let ended = nodes.other.ended_uploads(at(1), 10).await.unwrap();
        ended.into_iter().map(|upload| (upload.id, upload.upstream)).collect::<Vec<_>>()
    };
    let left_behind = |id: &str| [(Box::from(id), Some(Box::from("/v2/somewhere")))];
    assert_eq!(left().await, []);
    nodes.one.delete_robot(&ci.id).await.unwrap();
    assert_eq!(nodes.other.upload("of-ci").await.unwrap(), None);
    assert_eq!(left().await, left_behind("of-ci"), "though it has time and room left");
    nodes.one.close_upload("of-ci").await.unwrap();
    assert_eq!(left().await, []);
    assert_eq!(nodes.other.account(&acme.id).await.unwrap().reserved, 10);

    let entry = JournalEntry {
        id: "of-cd".into(),
        project: acme.id.clone(),
        repository: repo("acme/app"),
        step: JournalStep::PutBlob { digest: digest("b") },
        actor: "acme+cd".into(),
        started_at: at(0),
    };
    nodes.one.begin(&entry).await.unwrap();
    nodes.one.delete_project(&acme.id, at(1)).await.unwrap();
    assert_eq!(nodes.other.upload("of-cd").await.unwrap(), None);
    assert_eq!(left().await, [], "nobody knows yet what its end came to");
    nodes.one.finish("of-cd").await.unwrap();
    assert_eq!(left().await, left_behind("of-cd"));
}

pub async fn the_journal_gives_back_what_was_not_struck_out(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let entry = |id: &str, second| JournalEntry {
        id: id.into(),
        project: acme.id.clone(),
        repository: repo("acme/app"),
        step: match second {
            10 => JournalStep::PutManifest { digest: digest("m"), tags: vec![tag("1.0"), tag("latest")] },
            20 => JournalStep::PutBlob { digest: digest("b") },
            _ => JournalStep::DeleteTag { tag: tag("1.0"), throwaway: digest("nothing") },
        },
        actor: "acme+ci".into(),
        started_at: at(second),
    };
    for (id, second) in [("late", 30), ("first", 10), ("second", 20), ("done", 15)] {
        nodes.one.begin(&entry(id, second)).await.unwrap();
    }
    nodes.one.finish("done").await.unwrap();
    nodes.one.finish("done").await.unwrap();
    assert_eq!(nodes.other.unfinished(at(30)).await.unwrap(), [entry("first", 10), entry("second", 20)]);
    nodes.one.renew(&["first".into()], at(40), at(50), None).await.unwrap();
    assert_eq!(
        nodes.other.unfinished(at(30)).await.unwrap(),
        [entry("second", 20)],
        "somebody is at work at the first"
    );
}
