//! Policies at a token's issue: narrower, shorter, or none; and no door around them.

use super::{attach, denied, scene};
use http::Method;
use portcullis_tests::guest;
use portcullis_tests::http::{Credentials, Http};
use portcullis_tests::image::Manifest;
use portcullis_tests::mint;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::Scene;
use serde_json::json;

/// Pushers only pull, and for a minute; the owner is not asked; nobody else gets a token.
fn narrowing() -> Scene {
    scene(|gateway| {
        let settings = json!({
            "rules": [
                {"robots": ["pusher"], "actions": ["pull"], "max-ttl-s": 60},
                {"robots": ["owner"], "repositories": ["**"]},
            ],
            "otherwise": "deny",
        });
        attach(gateway, "acme", "token-ttl", &settings, &[]);
    })
}

const REFUSED: &str = "policy token-ttl of acme: no rule gives this caller a token";

#[test]
fn a_token_is_narrowed_and_its_life_shortened() {
    let scene = narrowing();
    let who = scene.acme.push.credentials();
    let answer = scene.gateway.ask_token(&who, &["repository:acme/app:pull,push"]).expect(200).json();
    assert_eq!(answer["expires_in"], 60, "{answer}");
    let token = Credentials::Bearer(answer["token"].as_str().expect("a token").to_owned());
    let claims = mint::parts(mint::text(&token)).claims;
    assert_eq!(claims["access"], json!([{"type": "repository", "name": "acme/app", "actions": ["pull"]}]));
    assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(end, start)| end - start), Some(60));
    let repository = scene.gateway.repository("acme/app", &token);
    repository.request(Method::POST, "blobs/uploads/").send().refused(401, "UNAUTHORIZED");
    assert_eq!(repository.manifest("none").status, 404);

    let owner = scene.gateway.ask_token(&scene.acme.admin.credentials(), &["repository:acme/app:*"]).expect(200).json();
    assert_eq!(owner["expires_in"], 300, "{owner}");
}

#[test]
fn a_policy_that_refuses_a_token_is_heard_at_every_door() {
    let scene = narrowing();
    let who = scene.acme.pull.credentials();
    denied(scene.gateway.ask_token(&who, &["repository:acme/app:pull"]), REFUSED);
    denied(scene.gateway.ask_token(&who, &[]), REFUSED);
    let Credentials::Basic(username, password) = &who else { panic!("robots have passwords") };
    let form = [
        ("grant_type", "password"),
        ("username", username),
        ("password", password),
        ("scope", "repository:acme/app:pull"),
    ];
    denied(scene.gateway.http().post("/token").form(&form).send(), REFUSED);
    denied(scene.gateway.repository("acme/app", &who).manifest("1"), REFUSED);
    // What nobody asks about is not refused.
    scene.gateway.ask_token(&scene.globex.pull.credentials(), &["repository:globex/app:pull"]).expect(200);
}

#[test]
fn whom_nothing_is_granted_learns_nothing_of_a_projects_policies() {
    let scene = narrowing();
    let access = |who: &Credentials, name: &str| {
        let answer = scene.gateway.ask_token(who, &[&format!("repository:{name}/app:pull")]).expect(200);
        mint::access(&answer)
    };
    for who in [Credentials::None, scene.globex.admin.credentials()] {
        for name in ["acme", "nobody"] {
            assert_eq!(access(&who, name), [] as [&str; 0], "{name}");
        }
    }
}

#[test]
fn credentials_sent_along_are_no_better_than_a_token() {
    let scene = narrowing();
    scene.acme("app").push("1", &Manifest::image(1, 200));
    let pusher = scene.gateway.repository("acme/app", &scene.acme.push.credentials());
    pusher.manifest("1").expect(200);
    let answer = pusher.request(Method::POST, "blobs/uploads/").send().refused(401, "UNAUTHORIZED");
    assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer}");
}

#[test]
fn warnings_about_credentials_sent_along_reach_the_client() {
    let warner = guest::made(
        "token-warner",
        r#";; hooks: token
        (data (i32.const 4096) "repository")
        (data (i32.const 4112) "acme/app")
        (data (i32.const 4120) "pull")
        (data (i32.const 4128) "use a token")
        (func $on-token (param $args i32) (result i32)
          (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
          (i32.store (i32.const 700) (i32.const 4120))
          (i32.store (i32.const 704) (i32.const 4))
          (i32.store (i32.const 720) (i32.const 4096))
          (i32.store (i32.const 724) (i32.const 10))
          (i32.store (i32.const 728) (i32.const 4112))
          (i32.store (i32.const 732) (i32.const 8))
          (i32.store (i32.const 736) (i32.const 700))
          (i32.store (i32.const 740) (i32.const 1))
          (i32.store (i32.const 760) (i32.const 4128))
          (i32.store (i32.const 764) (i32.const 11))
          (i32.store8 (i32.const 640) (i32.const 1))
          (i32.store (i32.const 644) (i32.const 720))
          (i32.store (i32.const 648) (i32.const 1))
          (i32.store (i32.const 652) (i32.const 300))
          (i32.store (i32.const 656) (i32.const 760))
          (i32.store (i32.const 660) (i32.const 1))
          (i32.const 640))"#,
    );
    let scene = scene(|gateway| {
        gateway.attach("acme", &warner, json!({}), &["--name", "warner"]);
    });
    let upstream = Http::new(&scene.registry.url(), None);
    let image = Manifest::image(1, 200);
    Repository::new(&upstream, "acme/app", &Credentials::None).push("1", &image);
    let answer = scene.gateway.repository("acme/app", &scene.acme.pull.credentials()).manifest("1").expect(200);
    assert_eq!(answer.header("warning"), "299 - \"use a token\"", "{answer}");
}

#[test]
fn a_refresh_token_fetches_no_more_than_a_login_would() {
    let scene = narrowing();
    let Credentials::Basic(username, password) = scene.acme.push.credentials() else { panic!("robots have passwords") };
    let ask = |pairs: &[(&str, &str)]| scene.gateway.http().post("/token").form(pairs).send();
    let login = [
        ("grant_type", "password"),
        ("access_type", "offline"),
        ("username", username.as_str()),
        ("password", password.as_str()),
    ];
    let refresh = ask(&login).expect(200).json()["refresh_token"].as_str().expect("it was asked for").to_owned();
    let scope = "repository:acme/app:pull,push";
    let fetched = ask(&[("grant_type", "refresh_token"), ("refresh_token", &refresh), ("scope", scope)]).expect(200);
    assert_eq!(
        (&fetched.json()["scope"], &fetched.json()["expires_in"]),
        (&"repository:acme/app:pull".into(), &60.into())
    );
}

#[test]
fn what_one_project_refuses_does_not_take_the_other_ones_scopes() {
    let scene = narrowing();
    let both = scene.gateway.robot("globex", "both", &["--grant", "globex/**=pull", "--grant", "acme/**=pull"]);
    scene.gateway.cli(&["grant", "accept", &scene.gateway.foreign_grant("acme")]);
    portcullis_tests::scene::within(portcullis_tests::scene::EFFECT, || {
        let answer = scene.gateway.ask_token(&both.credentials(), &["repository:acme/app:pull"]);
        (answer.status == 403).then_some(())
    });
    let scopes = ["repository:acme/app:pull", "repository:globex/app:pull"];
    let token = scene.gateway.token(&both.credentials(), &scopes);
    let claims = mint::parts(mint::text(&token)).claims;
    assert_eq!(claims["access"], json!([{"type": "repository", "name": "globex/app", "actions": ["pull"]}]));
}
