//! Refresh tokens: fetched where asked for, good at the token endpoint alone, and alive as long as their secret.

use super::{bearer, get, post, post_password, refused_login};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_tests::http::{Credentials, Response};
use portcullis_tests::mint::{self, access};
use portcullis_tests::persona::Robot;
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::time::Duration;

fn post_refresh(scene: &Scene, token: &str, scope: &str) -> Response {
    post(scene, &[("grant_type", "refresh_token"), ("refresh_token", token), ("scope", scope)])
}

fn refresh_token(scene: &Scene, robot: &Robot) -> String {
    let answer = get(scene, &robot.credentials(), "&account=x&client_id=docker&offline_token=true").expect(200);
    answer.json()["refresh_token"].as_str().expect("it was asked for").to_owned()
}

#[test]
fn a_refresh_token_comes_only_where_it_is_asked_for() {
    let scene = Scene::shared();
    let robot = &scene.acme.pull;
    let has = |answer: Response| answer.expect(200).json().get("refresh_token").is_some();
    assert!(has(get(&scene, &robot.credentials(), "&offline_token=true")));
    assert!(!has(get(&scene, &robot.credentials(), "")));
    assert!(!has(get(&scene, &robot.credentials(), "&offline_token=false")));
    assert!(has(post_password(&scene, robot, &[("access_type", "offline")])));
    assert!(!has(post_password(&scene, robot, &[("access_type", "online")])));
    assert!(!has(get(&scene, &Credentials::None, "&offline_token=true&scope=repository:acme/app:pull")));
}

#[test]
fn a_refresh_token_fetches_access_tokens_and_is_not_used_up() {
    let scene = Scene::shared();
    let token = refresh_token(&scene, &scene.acme.pull);
    for _ in 0..2 {
        let answer =
            post_refresh(&scene, &token, "repository:acme/app:pull,push repository:globex/app:pull").expect(200);
        assert_eq!(access(&answer), ["repository:acme/app:pull"]);
        scene.gateway.http().get("/v2/").with(&bearer(&answer)).send().expect(200);
    }
}

#[test]
fn refresh_and_access_tokens_do_not_stand_in_for_each_other() {
    let scene = Scene::shared();
    let robot = &scene.acme.pull;
    let refresh = refresh_token(&scene, robot);
    let http = scene.gateway.http();
    for path in ["/v2/", "/v2/acme/app/tags/list", "/v2/_catalog"] {
        let answer = http.get(path).with(&Credentials::Bearer(refresh.clone())).send().refused(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{answer}");
    }
    let access = scene.gateway.token(&robot.credentials(), &["repository:acme/app:pull"]);
    refused_login(post_refresh(&scene, mint::text(&access), "repository:acme/app:pull"));
    refused_login(post_refresh(&scene, &robot.token, "repository:acme/app:pull"));
    let as_password = Credentials::Basic(robot.username.clone(), refresh.clone());
    refused_login(get(&scene, &as_password, ""));
    // Changed by one character it is nothing.
    let (message, _) = refresh.rsplit_once('.').expect("a token");
    refused_login(post_refresh(&scene, &format!("{message}.{}", URL_SAFE_NO_PAD.encode([7; 32])), ""));
}

#[test]
fn a_refresh_token_ends_with_its_robot_and_with_its_secret() {
    let scene = Scene::shared();
    let gateway = &scene.gateway;
    let ends = |name: &str, command: &[&str]| {
        let robot = gateway.robot("acme", name, &["--role", "pull"]);
        let token = refresh_token(&scene, &robot);
        post_refresh(&scene, &token, "").expect(200);
        gateway.cli(command);
        let refused = within(EFFECT, || Some(post_refresh(&scene, &token, "")).filter(|answer| answer.status != 200));
        refused_login(refused);
        token
    };
    ends("short-lived", &["robot", "delete", "acme", "short-lived"]);
    let token = ends("paused", &["robot", "disable", "acme", "paused"]);
    gateway.cli(&["robot", "enable", "acme", "paused"]);
    within(EFFECT, || Some(post_refresh(&scene, &token, "")).filter(|answer| answer.status == 200));
    ends("rotated", &["robot", "rotate", "acme", "rotated", "--grace", "0s"]);
}

#[test]
fn a_refresh_token_lives_through_the_grace_of_its_rotated_secret() {
    let scene = Scene::shared();
    let robot = scene.gateway.robot("acme", "graceful", &["--role", "pull"]);
    let token = refresh_token(&scene, &robot);
    let rotated = scene.gateway.cli(&["robot", "rotate", "acme", "graceful", "--grace", "3s", "--json"]).json();
    let fresh = Robot { token: rotated["token"].as_str().expect("the new secret").to_owned(), ..robot.clone() };
    within(EFFECT, || Some(get(&scene, &fresh.credentials(), "")).filter(|answer| answer.status == 200));
    let both = post_refresh(&scene, &token, "").status == 200 && get(&scene, &robot.credentials(), "").status == 200;
    assert!(both, "the old secret ended before its grace");
    let refused =
        within(Duration::from_secs(6), || Some(post_refresh(&scene, &token, "")).filter(|answer| answer.status != 200));
    refused_login(refused);
    refused_login(get(&scene, &robot.credentials(), ""));
    get(&scene, &fresh.credentials(), "").expect(200);
}
