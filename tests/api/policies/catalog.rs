//! The catalogue, which is of no one project: the platform's policies are asked, and those of the caller's own project.

use super::{attach, denied, scene};
use http::Method;
use portcullis_tests::guest;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::image::Manifest;
use portcullis_tests::mint;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::json;

const CATALOG: &str = "registry:catalog:*";

fn catalog(scene: &Scene, who: &Credentials) -> Response {
    scene.gateway.http().request(Method::GET, "/v2/_catalog").with(who).send()
}

#[test]
fn the_catalogue_is_the_business_of_the_platform_and_of_the_callers_own_project() {
    let scene = scene(|gateway| {
        let asked = |expression: &str, message: &str| json!({"hooks": ["request"], "expression": expression, "message": message});
        let own = asked("request.operation != 'catalog' || context.subject.id != 'acme+puller'", "no lists");
        attach(gateway, "acme", "expression", &own, &[]);
        let all = asked("request.operation != 'catalog' || !context.subject.id.endsWith('+pusher')", "no lists");
        attach(gateway, "--platform", "expression", &all, &[]);
    });
    let (acme, globex) = (&scene.acme, &scene.globex);
    scene.acme("app").push("1", &Manifest::image(1, 200));
    denied(catalog(&scene, &acme.pull.credentials()), "policy expression of acme: no lists");
    let token = scene.gateway.token(&acme.pull.credentials(), &[CATALOG]);
    denied(catalog(&scene, &token), "policy expression of acme: no lists");
    for who in [&acme.push, &globex.push] {
        denied(catalog(&scene, &who.credentials()), "policy expression of the platform: no lists");
    }
    for (who, shown) in [(&acme.admin, json!(["acme/app"])), (&globex.pull, json!([]))] {
        assert_eq!(catalog(&scene, &who.credentials()).expect(200).json()["repositories"], shown);
    }
}

#[test]
fn a_warning_at_the_catalogue_reaches_the_client() {
    let scene = scene(|gateway| {
        let settings = json!({"hooks": ["request"], "expression": "false", "message": "soon no lists", "warn": true});
        attach(gateway, "acme", "expression", &settings, &[]);
    });
    let answer = catalog(&scene, &scene.acme.pull.credentials()).expect(200);
    assert_eq!(answer.header("warning"), "299 - \"soon no lists\"", "{answer}");
}

#[test]
fn who_observes_answers_sees_the_catalogues() {
    let observer = guest::made("observer", ";; hooks: response");
    let scene = scene(|gateway| {
        gateway.attach("acme", &observer, json!({}), &["--name", "observer"]);
    });
    catalog(&scene, &scene.globex.pull.credentials()).expect(200);
    catalog(&scene, &scene.acme.pull.credentials()).expect(200);
    let seen = within(EFFECT, || {
        let status = scene.gateway.management().get("/policies").send().expect(200).json();
        status["policies"][0]["verdicts"]["pass"].as_u64().filter(|seen| *seen > 0)
    });
    assert_eq!(seen, 1, "another project's answers are not its business");
}

#[test]
fn the_catalogues_scope_belongs_to_the_part_of_the_robots_own_project() {
    let scene = scene(|gateway| {
        let settings = json!({"rules": [{"robots": ["puller"], "actions": ["pull"]}]});
        attach(gateway, "acme", "token-ttl", &settings, &[]);
    });
    let access = |who: &Credentials| {
        let scopes = [CATALOG, "repository:acme/app:pull"];
        mint::access(&scene.gateway.ask_token(who, &scopes).expect(200))
    };
    assert_eq!(access(&scene.acme.pull.credentials()), ["repository:acme/app:pull"]);
    assert_eq!(access(&scene.acme.push.credentials()), ["registry:catalog:*", "repository:acme/app:pull"]);
    assert_eq!(access(&scene.globex.pull.credentials()), [CATALOG]);
    // Credentials that are sent along are no better than a token.
    catalog(&scene, &scene.acme.pull.credentials()).refused(401, "UNAUTHORIZED");
    catalog(&scene, &scene.acme.push.credentials()).expect(200);
}

/// There is nobody whose policies could be asked: without a login nobody is given the scope.
#[test]
fn who_has_not_logged_in_sees_no_catalogue() {
    let scene = Scene::shared();
    let answer = scene.gateway.ask_token(&Credentials::None, &[CATALOG]).expect(200);
    assert_eq!(mint::access(&answer), [] as [&str; 0]);
    let token = Credentials::Bearer(answer.json()["token"].as_str().expect("a token").to_owned());
    for who in [token, Credentials::None] {
        catalog(&scene, &who).refused(401, "UNAUTHORIZED");
    }
}
