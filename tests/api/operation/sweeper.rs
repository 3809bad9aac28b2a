//! What has expired is forgotten while the gateway serves.

use portcullis_oci::RepositoryName;
use portcullis_tenancy::ledger::Upload;
use portcullis_tenancy::token::ScopeSet;
use portcullis_tenancy::{Store as _, StoreError, Timestamp};
use portcullis_tests::http::block_on;
use portcullis_tests::scene::{Scene, within};
use std::time::Duration;

#[test]
fn uploads_and_scope_sets_that_have_expired_are_forgotten_and_no_others() {
    let scene = Scene::open();
    let url = scene.gateway.store_url();
    let now = Timestamp::now();
    let day = Duration::from_secs(86_400);
    let (past, future) = (now.checked_sub(day).expect("in this age"), now.checked_add(day).expect("in this age"));
    let (ended, living) = (ScopeSet::new(Vec::new(), Vec::new(), past), {
        let scopes = portcullis_oci::scope::parse_all(["repository:acme/app:pull"].into_iter()).expect("a scope");
        ScopeSet::new(scopes, Vec::new(), future)
    });
    let added = block_on(async {
        let store = portcullis_store::open(&url, 2).await?;
        let robot = store.robot_named("acme", "pusher").await?.expect("it was made");
        for (id, expires_at) in [("of-yesterday", past), ("of-tomorrow", future)] {
            let upload = Upload {
                id: id.into(),
                project: robot.project.clone(),
                repository: RepositoryName::parse("acme/app").expect("a name"),
                robot: robot.id.clone(),
                started_at: past,
                expires_at,
                upstream: None,
            };
            store.open_upload(&upload).await?;
        }
        store.add_scope_set(&ended).await?;
        store.add_scope_set(&living).await
    });
    added.expect("the store can be written");
    let kept = || {
        let kept = block_on(async {
            let store = portcullis_store::open(&url, 2).await?;
            let uploads = (store.upload("of-yesterday").await?.is_some(), store.upload("of-tomorrow").await?.is_some());
            let sets = (store.scope_set(&ended.id).await?.is_some(), store.scope_set(&living.id).await?.is_some());
            Ok::<_, StoreError>((uploads, sets))
        });
        kept.expect("the store can be read")
    };
    within(Duration::from_secs(60), || (kept() == ((false, true), (false, true))).then_some(()));
}
