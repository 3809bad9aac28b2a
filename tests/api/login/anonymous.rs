//! Tokens for nobody: public projects alone, and nothing of them is kept.

use super::get;
use portcullis_tenancy::token::carry;
use portcullis_tenancy::{Store as _, StoreError, Timestamp};
use portcullis_tests::http::{Credentials, block_on};
use portcullis_tests::mint::{access, parts};
use portcullis_tests::scene::{EFFECT, Scene, within};

/// Whether the store keeps the set that a token for these scopes of this project would refer to.
fn is_kept(scene: &Scene, project: &str, scopes: &[String]) -> bool {
    let scopes = portcullis_oci::scope::parse_all(scopes.iter().map(String::as_str)).expect("scopes");
    let kept = block_on(async {
        let store = portcullis_store::open(&scene.gateway.store_url(), 2).await?;
        let project = store.project(project).await?.expect("it was made");
        let (_, set) = carry(scopes, vec![(project.name.as_str().into(), project.id)], Timestamp::now());
        let set = set.expect("more than fit into a token");
        Ok::<_, StoreError>(store.scope_set(&set.id).await?.is_some())
    });
    kept.expect("the store can be read")
}

#[test]
fn however_much_nobody_asks_for_nothing_is_stored() {
    let scene = Scene::shared();
    scene.gateway.cli(&["project", "create", "plaza", "--public"]);
    // As long as names may be: what is inline must fit at its longest.
    let scope = |number: usize| format!("repository:plaza/{:0>249}:pull", number);
    let scopes: Vec<String> = (0..400).map(scope).collect();
    // Not all of them fit into one head.
    for asked in [1, 3, 4, 40] {
        let query: String = scopes[..asked].iter().map(|scope| format!("&scope={scope}")).collect();
        let answer = within(EFFECT, || {
            Some(get(&scene, &Credentials::None, &query).expect(200)).filter(|answer| !access(answer).is_empty())
        });
        let token = answer.json()["token"].as_str().expect("a token").to_owned();
        let claims = parts(&token).claims;
        assert!(claims.get("scope_set").is_none(), "{claims}");
        assert_eq!(access(&answer), scopes[..asked.min(3)], "as many as fit at their longest");
        if asked > 10 {
            assert!(!is_kept(&scene, "plaza", &scopes[..asked]), "{asked} scopes were stored for nobody");
        }
        let bearer = Credentials::Bearer(token);
        let http = scene.gateway.http();
        let tags = |number: usize| http.get(&format!("/v2/plaza/{number:0>249}/tags/list")).with(&bearer).send();
        tags(0).refused(404, "NAME_UNKNOWN");
        tags(asked.min(3)).refused(401, "UNAUTHORIZED");
    }
    // Short ones, all 400 at once.
    let scopes: Vec<String> = (0..400).map(|number| format!("repository:plaza/a{number}:pull")).collect();
    let query: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
    let answer = get(&scene, &Credentials::None, &query).expect(200);
    assert_eq!(access(&answer), scopes[..3]);
    assert!(!is_kept(&scene, "plaza", &scopes), "400 scopes were stored for nobody");
    // A robot that asks for as much gets a set that is stored: the same way of looking finds it.
    get(&scene, &scene.acme.pull.credentials(), &query).expect(200);
    assert!(is_kept(&scene, "plaza", &scopes), "the set of a robot's token is not where it is looked for");
}
