//! Projects, robots, grants, keys, and the generation that counts their changes.

use super::policies::attachment;
use super::*;
use ipnet::IpNet;
use portcullis_tenancy::StoreError;
use portcullis_tenancy::key::{Algorithm, StoredKey};
use portcullis_tenancy::limit::{Change, LimitOwner};

pub async fn a_project_is_found_by_name_and_listed_in_the_order_of_bytes(nodes: Nodes) {
    let names = ["a-b", "a.b", "a0", "a_b", "ab"];
    for name in names.iter().rev() {
        nodes.one.add_project(&project(name)).await.unwrap();
    }
    let mut public = project_at("acme", "tenants/acme");
    public.public = true;
    nodes.one.add_project(&public).await.unwrap();
    assert_eq!(nodes.other.project("acme").await.unwrap(), Some(public));
    assert_eq!(nodes.other.project("acm_").await.unwrap(), None);
    let listed: Vec<String> =
        nodes.other.projects().await.unwrap().iter().map(|project| project.name.to_string()).collect();
    assert_eq!(listed, ["a-b", "a.b", "a0", "a_b", "ab", "acme"]);
}

pub async fn a_deleted_project_keeps_its_name_and_prefix_until_it_is_purged(nodes: Nodes) {
    let store = &*nodes.one;
    let first = project_at("acme", "tenants/acme");
    store.add_project(&first).await.unwrap();
    assert!(matches!(store.purge_project(&first.id).await, Err(StoreError::Missing)), "it is alive");
    store.delete_project(&first.id, at(5)).await.unwrap();
    assert!(matches!(store.delete_project(&first.id, at(6)).await, Err(StoreError::Missing)));
    assert_eq!(store.project("acme").await.unwrap().unwrap().deleted_at, Some(at(5)));

    let mut second = project_at("acme", "elsewhere");
    second.id = ProjectId("second".into());
    assert!(matches!(store.add_project(&second).await, Err(StoreError::Taken("project name"))));
    assert!(matches!(
        store.add_project(&project_at("other", "tenants")).await,
        Err(StoreError::Taken("upstream prefix"))
    ));

    store.purge_project(&first.id).await.unwrap();
    assert!(matches!(store.purge_project(&first.id).await, Err(StoreError::Missing)));
    store.add_project(&second).await.unwrap();
    store.add_project(&project_at("other", "tenants")).await.unwrap();
}

pub async fn upstream_prefixes_do_not_overlap_by_whole_components(nodes: Nodes) {
    let store = &*nodes.one;
    store.add_project(&project_at("acme", "tenants/acme")).await.unwrap();
    for overlapping in ["tenants/acme", "tenants", "tenants/acme/app", "tenants/acme/app/more"] {
        let refused = store.add_project(&project_at("other", overlapping)).await;
        assert!(matches!(refused, Err(StoreError::Taken("upstream prefix"))), "{overlapping}: {refused:?}");
    }
    // `_` is no wildcard, and half a component is no component.
    for (name, apart) in [
        ("a", "tenants/acm"),
        ("b", "tenants/acme2"),
        ("c", "tenants/acm_"),
        ("d", "tenant"),
        ("e", "tenants/acme-x/y"),
        ("f", "acme"),
    ] {
        store.add_project(&project_at(name, apart)).await.unwrap();
    }
    assert_eq!(store.projects().await.unwrap().len(), 7, "a refusal leaves nothing behind");
}

pub async fn a_deleted_project_takes_its_robots_and_uploads_along(nodes: Nodes) {
    let store = &*nodes.one;
    let (acme, ci) = acme(store).await;
    let globex = project("globex");
    store.add_project(&globex).await.unwrap();
    let pusher = robot(&globex, "pusher");
    store.add_robot(&pusher).await.unwrap();
    store.open_upload(&upload("own", &ci, "acme/app")).await.unwrap();
    store.open_upload(&Upload { robot: pusher.id.clone(), ..upload("foreign", &ci, "acme/app") }).await.unwrap();
    store.open_upload(&Upload { project: globex.id.clone(), ..upload("abroad", &ci, "globex/app") }).await.unwrap();
    store.open_upload(&upload("globex", &pusher, "globex/app")).await.unwrap();

    store.delete_project(&acme.id, at(5)).await.unwrap();
    let other = &*nodes.other;
    assert!(other.robot(&ci.id).await.unwrap().is_none());
    assert!(other.robot_named("acme", "ci").await.unwrap().is_none());
    assert!(other.robots(&acme.id).await.unwrap().is_empty());
    for id in ["own", "foreign", "abroad"] {
        assert_eq!(other.upload(id).await.unwrap(), None, "{id}");
    }
    assert!(other.upload("globex").await.unwrap().is_some());
    assert!(matches!(store.add_robot(&robot(&acme, "late")).await, Err(StoreError::Missing)));
    assert!(matches!(store.set_disabled(&ci.id, None).await, Err(StoreError::Missing)));
    assert!(matches!(store.replace_secrets(&ci, &ci.secrets[0].id).await, Err(StoreError::Missing)));
}

pub async fn a_purged_project_leaves_no_record(nodes: Nodes) {
    let store = &*nodes.one;
    let (acme, ci) = acme(store).await;
    let globex = project("globex");
    store.add_project(&globex).await.unwrap();
    let mut guest = robot(&globex, "guest");
    guest.grants.push(grant("on-acme", &acme, Consent::Accepted));
    store.add_robot(&guest).await.unwrap();
    let app = repo("acme/app");
    store.open_upload(&upload("u", &ci, "acme/app")).await.unwrap();
    for number in 0..3 {
        hold(store, &acme.id, &app, &digest(&number.to_string()), 1, None, at(1)).await.unwrap();
        store
            .add_manifest(&pushed(&acme, "acme/app", &number.to_string(), &["latest"]), &[], Charge::Anyway)
            .await
            .unwrap();
    }
    assert!(store.lock_tag(&acme.id, &app, &tag("latest"), "me", at(1), at(60)).await.unwrap());

    store.delete_project(&acme.id, at(5)).await.unwrap();
    store.purge_project(&acme.id).await.unwrap();
    let other = &*nodes.other;
    assert_eq!(other.project("acme").await.unwrap(), None);
    assert!(!other.has_link(&acme.id, &app, &digest("0")).await.unwrap());
    assert!(other.manifests(&acme.id, &app).await.unwrap().is_empty());
    assert!(other.tags(&acme.id, &app).await.unwrap().is_empty());
    let guest = other.robot(&guest.id).await.unwrap().unwrap();
    assert_eq!(guest.grants.len(), 1, "a grant on what is gone is gone");
    let orphan = hold(store, &acme.id, &app, &digest("0"), 1, None, at(9)).await;
    assert!(matches!(orphan, Err(StoreError::Missing)), "{orphan:?}");
}

pub async fn a_robot_comes_back_as_it_was_put(nodes: Nodes) {
    let (acme, _) = acme(&*nodes.one).await;
    let globex = project("globex");
    nodes.one.add_project(&globex).await.unwrap();
    let mut put = robot(&acme, "deploy");
    put.role = None;
    put.source_networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse::<IpNet>().unwrap()).into();
    put.expires_at = Some(at(1000));
    put.disabled_at = Some(at(7));
    put.secrets = vec![secret("new", 9), secret("old", 8)];
    put.secrets[1].expires_at = Some(at(100));
    put.secrets[1].last_used_at = Some(at(90));
    let pattern = Grant {
        pattern: RepositoryPattern::parse("acme/app-*").unwrap(),
        actions: Actions::ALL,
        ..grant("z", &acme, Consent::Accepted)
    };
    put.grants = vec![pattern, grant("a", &globex, Consent::Pending), grant("m", &globex, Consent::Refused)];
    nodes.one.add_robot(&put).await.unwrap();

    let listed = nodes.other.robots(&acme.id).await.unwrap();
    assert_eq!(listed.iter().map(|robot| &*robot.name).collect::<Vec<_>>(), ["ci", "deploy"]);
    let by_name = nodes.other.robot_named("acme", "deploy").await.unwrap().unwrap();
    let by_id = nodes.other.robot(&put.id).await.unwrap().unwrap();
    for got in [&by_name, &by_id, &listed[1]] {
        assert_eq!(
            (&got.id, &got.project, &got.project_name, &got.name),
            (&put.id, &put.project, &put.project_name, &put.name)
        );
        assert_eq!((got.role, &got.source_networks), (put.role, &put.source_networks));
        assert_eq!(
            (got.created_at, got.expires_at, got.disabled_at),
            (put.created_at, put.expires_at, put.disabled_at)
        );
        assert_eq!(got.grants, put.grants);
        assert_eq!(secrets(got), secrets(&put));
    }
    assert_eq!(listed[0].secrets.len(), 1);
    assert!(nodes.other.robot_named("globex", "deploy").await.unwrap().is_none());
    assert!(nodes.other.robot_named("acme", "deplo_").await.unwrap().is_none());
    assert!(matches!(nodes.one.add_robot(&robot(&acme, "ci")).await, Err(StoreError::Taken("robot name"))));
    assert!(matches!(nodes.one.add_robot(&robot(&project("nowhere"), "ci")).await, Err(StoreError::Missing)));
}

type SecretFacts<'a> = (&'a str, [u8; 32], Timestamp, Option<Timestamp>, Option<Timestamp>);

fn secrets(robot: &Robot) -> Vec<SecretFacts<'_>> {
    robot
        .secrets
        .iter()
        .map(|secret| (&*secret.id, secret.hash.0, secret.created_at, secret.expires_at, secret.last_used_at))
        .collect()
}

pub async fn replaced_secrets_keep_their_last_use(nodes: Nodes) {
    let (_, mut ci) = acme(&*nodes.one).await;
    let first = ci.secrets[0].id.clone();
    nodes.other.note_use(&[(first.clone(), at(50)), ("gone".into(), at(50))]).await.unwrap();
    nodes.other.note_use(&[(first.clone(), at(40))]).await.unwrap();

    let before = ci.clone();
    ci.secrets[0].expires_at = Some(at(100));
    ci.secrets.insert(0, secret("second", 2));
    nodes.one.replace_secrets(&ci, &first).await.unwrap();
    let late = nodes.other.replace_secrets(&before, &first).await;
    assert!(matches!(late, Err(StoreError::Taken(_))), "it knew an older secret for the newest");
    ci.secrets[1].last_used_at = Some(at(50));
    assert_eq!(secrets(&nodes.other.robot(&ci.id).await.unwrap().unwrap()), secrets(&ci));

    ci.secrets = vec![secret("third", 3), secret("second", 2)];
    nodes.one.replace_secrets(&ci, "second").await.unwrap();
    assert_eq!(secrets(&nodes.other.robot(&ci.id).await.unwrap().unwrap()), secrets(&ci));
    let mut thief = robot(&project("acme"), "thief");
    thief.secrets = vec![secret("second", 2)];
    assert!(matches!(nodes.one.add_robot(&thief).await, Err(StoreError::Missing)), "a secret belongs to one robot");
    assert!(nodes.other.robot(&thief.id).await.unwrap().is_none());
    assert!(matches!(
        nodes.one.replace_secrets(&robot(&project("acme"), "nobody"), "").await,
        Err(StoreError::Missing)
    ));
}

pub async fn a_robot_is_disabled_enabled_and_deleted(nodes: Nodes) {
    let (_, ci) = acme(&*nodes.one).await;
    nodes.one.set_disabled(&ci.id, Some(at(9))).await.unwrap();
    assert_eq!(nodes.other.robot(&ci.id).await.unwrap().unwrap().disabled_at, Some(at(9)));
    nodes.one.set_disabled(&ci.id, None).await.unwrap();
    assert_eq!(nodes.other.robot(&ci.id).await.unwrap().unwrap().disabled_at, None);

    nodes.one.open_upload(&upload("u", &ci, "acme/app")).await.unwrap();
    nodes.one.delete_robot(&ci.id).await.unwrap();
    assert!(nodes.other.robot(&ci.id).await.unwrap().is_none());
    assert_eq!(nodes.other.upload("u").await.unwrap(), None);
    assert!(matches!(nodes.one.open_upload(&upload("v", &ci, "acme/app")).await, Err(StoreError::Missing)));
    assert!(matches!(nodes.one.delete_robot(&ci.id).await, Err(StoreError::Missing)));
    assert!(matches!(nodes.one.set_disabled(&ci.id, None).await, Err(StoreError::Missing)));
    nodes.one.add_robot(&ci).await.unwrap();
}

pub async fn a_foreign_grant_waits_for_the_other_projects_consent(nodes: Nodes) {
    let store = &*nodes.one;
    let (acme, ci) = acme(store).await;
    let globex = project("globex");
    store.add_project(&globex).await.unwrap();
    let mut guest = robot(&globex, "guest");
    guest.grants.push(grant("asked", &acme, Consent::Pending));
    store.add_robot(&guest).await.unwrap();

    let asked = store.foreign_grants(Some(&acme.id)).await.unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (&asked[0].grant, asked[0].robot.as_str(), asked[0].project_name.as_str()),
        (&guest.grants[1], "globex+guest", "acme")
    );
    assert_eq!(store.foreign_grants(None).await.unwrap(), asked);
    assert!(store.foreign_grants(Some(&globex.id)).await.unwrap().is_empty());

    for consent in [Consent::Accepted, Consent::Refused, Consent::Accepted] {
        let decided = store.set_consent("asked", consent, at(20)).await.unwrap();
        assert_eq!((decided.grant.consent, decided.robot.as_str()), (consent, "globex+guest"));
        assert_eq!(nodes.other.robot(&guest.id).await.unwrap().unwrap().grants[1].consent, consent);
    }
    assert!(matches!(store.set_consent("unknown", Consent::Accepted, at(20)).await, Err(StoreError::Missing)));
    let own = &ci.grants[0].id;
    assert!(
        matches!(store.set_consent(own, Consent::Refused, at(20)).await, Err(StoreError::Missing)),
        "its own project has nothing to decide"
    );
    assert_eq!(store.robot(&ci.id).await.unwrap().unwrap().grants[0].consent, Consent::Accepted);

    store.delete_project(&globex.id, at(30)).await.unwrap();
    assert!(store.foreign_grants(None).await.unwrap().is_empty());
    assert!(matches!(store.set_consent("asked", Consent::Refused, at(31)).await, Err(StoreError::Missing)));
}

pub async fn keys_overlap_and_end(nodes: Nodes) {
    let key = |kid: &str, created: i64| StoredKey {
        kid: kid.into(),
        algorithm: if created == 0 { Algorithm::EdDsa } else { Algorithm::Es256 },
        sealed_private: vec![0, 255, 1],
        public_jwk: "{\"kty\":\"OKP\"}".into(),
        signs_from: at(created + 5),
        verifies_until: None,
        created_at: at(created),
    };
    assert!(nodes.one.keys().await.unwrap().is_empty());
    nodes.one.add_key(&key("first", 0), at(0), at(0)).await.unwrap();
    nodes.one.add_key(&key("second", 100), at(500), at(100)).await.unwrap();
    let kept = nodes.other.keys().await.unwrap();
    let ended = |key: StoredKey, end| StoredKey { verifies_until: Some(at(end)), ..key };
    assert!(kept == [key("second", 100), ended(key("first", 0), 500)]);
    assert!(matches!(
        nodes.one.add_key(&key("second", 100), at(900), at(200)).await,
        Err(StoreError::Taken("signing key"))
    ));
    assert!(nodes.other.keys().await.unwrap() == kept, "a refused key ends no other");
    nodes.one.add_key(&key("third", 600), at(1000), at(600)).await.unwrap();
    assert!(nodes.other.keys().await.unwrap() == [key("third", 600), ended(key("second", 100), 1000)]);
}

pub async fn the_deployments_id_is_made_once(nodes: Nodes) {
    let (one, other) = tokio::join!(nodes.one.deployment("candidate-1"), nodes.other.deployment("candidate-2"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one, other);
    assert_eq!(nodes.other.deployment("candidate-3").await.unwrap(), one);
}

pub async fn every_change_of_a_rule_bumps_the_generation_and_nothing_else_does(nodes: Nodes) {
    let store = &*nodes.one;
    let generation = async || nodes.other.generation().await.unwrap().0;
    let mut expected = generation().await;
    let (acme, globex) = (project("acme"), project("globex"));
    let mut ci = robot(&acme, "ci");
    ci.grants.push(grant("asked", &globex, Consent::Pending));
    let key = StoredKey {
        kid: "k".into(),
        algorithm: Algorithm::EdDsa,
        sealed_private: vec![1],
        public_jwk: "{}".into(),
        signs_from: at(0),
        verifies_until: None,
        created_at: at(0),
    };
    macro_rules! bumps {
        ($($call:expr),+ $(,)?) => { $(
            $call.await.unwrap();
            expected += 1;
            assert_eq!(generation().await, expected, stringify!($call));
        )+ };
    }
    bumps!(store.add_project(&acme), store.add_project(&globex), store.add_robot(&ci));
    let refused = [
        store.add_project(&acme).await,
        store.add_robot(&ci).await,
        store.delete_robot(&RobotId("none".into())).await,
        store.purge_project(&acme.id).await,
    ];
    assert!(refused.iter().all(Result::is_err));
    store.set_consent("none", Consent::Accepted, at(1)).await.unwrap_err();
    assert_eq!(generation().await, expected, "a refused change is none");
    records(store, &acme, &ci).await;
    assert_eq!(generation().await, expected, "a record is no rule");
    bumps!(
        store.set_consent("asked", Consent::Accepted, at(1)),
        store.replace_secrets(&ci, &ci.secrets[0].id),
        store.set_disabled(&ci.id, Some(at(2))),
        store.change_limits(LimitOwner::Project(&acme.id), &Change::default()),
        store.change_limits(LimitOwner::Robot(&ci.id), &Change::default()),
        store.delete_robot(&ci.id),
        store.put_attachment(&attachment(Some(&acme), "naming", b"1"), None, b"1"),
        store.remove_attachment(Some(&acme.id), &attachment(Some(&acme), "naming", b"1").name),
        store.add_key(&key, at(0), at(0)),
        store.delete_project(&acme.id, at(3)),
        store.purge_project(&acme.id),
    );
}

async fn records(store: &dyn Store, acme: &Project, ci: &Robot) {
    let app = repo("acme/app");
    store.deployment("id").await.unwrap();
    store.note_use(&[(ci.secrets[0].id.clone(), at(1))]).await.unwrap();
    store.open_upload(&upload("u", ci, "acme/app")).await.unwrap();
    hold(store, &acme.id, &app, &digest("b"), 1, Some("u"), at(1)).await.unwrap();
    store.add_manifest(&pushed(acme, "acme/app", "m", &["t"]), &[], Charge::Anyway).await.unwrap();
    assert!(store.lock_tag(&acme.id, &app, &tag("t"), "me", at(1), at(2)).await.unwrap());
    store.sweep(at(100)).await.unwrap();
    store.remove_tag(&acme.id, &app, &tag("t")).await.unwrap();
    store.remove_manifest(&acme.id, &app, &digest("m"), at(20)).await.unwrap();
    store.remove_link(&acme.id, &app, &digest("b")).await.unwrap();
}
