//! Failed logins are slowed, by address and by account; the right user gets in all the same.

use super::{limited, refused};
use portcullis_tests::gateway::{Builder, metric};
use portcullis_tests::http::{Credentials, Http, Response};
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::time::Duration;

fn wrong(username: &str) -> Credentials {
    Credentials::Basic(username.to_owned(), "pcr_wrong".to_owned())
}

fn login(http: &Http, who: &Credentials) -> Response {
    http.get("/token?service=portcullis").with(who).send()
}

fn guarded(builder: Builder) -> Builder {
    builder.set("limits.login_failures_per_account", "3/d").set("limits.login_failures_per_address", "20/d")
}

/// Fails to log in until it is made to wait for at least so many seconds.
#[track_caller]
fn until_slowed(http: &Http, who: &Credentials, seconds: u64) -> Response {
    within(Duration::from_secs(60), || {
        let answer = login(http, who);
        let wait = answer.header("retry-after").parse().unwrap_or(0);
        (answer.status != 401 && wait >= seconds).then_some(answer)
    })
}

#[test]
fn an_account_is_slowed_and_whoever_has_its_token_gets_in() {
    let scene = Scene::with(guarded);
    let (home, attacker, stranger) =
        (scene.gateway.http(), scene.gateway.http().from([127, 0, 0, 66]), scene.gateway.http().from([127, 0, 0, 67]));
    let right = scene.acme.push.credentials();
    login(&home, &right).expect(200);
    for _ in 0..4 {
        login(&attacker, &wrong("acme+pusher")).refused(401, "UNAUTHORIZED");
    }
    // So long that all that follows is asked meanwhile.
    let answer = limited(until_slowed(&attacker, &wrong("acme+pusher"), 4), "login-failures-per-account");
    assert_eq!(answer.header("www-authenticate"), "", "{answer}");
    // By every door.
    limited(attacker.get("/v2/").with(&wrong("acme+pusher")).send(), "login-failures-per-account");
    let form = [("grant_type", "password"), ("username", "robot$acme+pusher"), ("password", "pcr_wrong")];
    limited(attacker.post("/token").form(&form).send(), "login-failures-per-account");
    // The right user is never made to wait, wherever he comes from.
    login(&home, &right).expect(200);
    home.get("/v2/").with(&right).send().expect(200);
    // Other accounts are not slowed.
    login(&attacker, &scene.acme.pull.credentials()).expect(200);
    login(&stranger, &right).expect(200);
    login(&attacker, &right).expect(200);
    assert!(metric(&scene.gateway.metrics(), "portcullis_login_failures_total", "kind=\"password\"") >= 4.0);
    assert!(refused(&scene.gateway, "login-failures-per-account") >= 3.0);
}

#[test]
fn names_that_are_there_and_names_that_are_not_are_slowed_alike() {
    let scene = Scene::with(guarded);
    let mut seen = Vec::new();
    for (number, username) in [(71, "acme+pusher"), (72, "acme+nobody"), (73, "nothing+pusher"), (74, "no name")] {
        let http = scene.gateway.http().from([127, 0, 0, number]);
        let mut answers: Vec<String> = (0..4).map(|_| login(&http, &wrong(username)).appearance()).collect();
        let slowed = limited(until_slowed(&http, &wrong(username), 1), "login-failures-per-account");
        // How long it is, depends on how fast all of this goes.
        answers.push(slowed.appearance().replace(|digit: char| digit.is_ascii_digit(), ""));
        seen.push(answers);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "they can be told apart: {seen:#?}");
}

#[test]
fn the_wait_grows_with_each_failure_and_refusals_are_none() {
    let scene = Scene::with(|builder| guarded(builder).set("limits.login_delay_max_s", 4));
    let http = scene.gateway.http().from([127, 0, 0, 81]);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let answer = until_slowed(&http, &wrong("acme+puller"), 1);
        let wait: u64 = answer.header("retry-after").parse().expect("a number");
        waits.push(wait);
        // Asking again and again does not make it longer.
        for _ in 0..2 {
            let again: u64 = login(&http, &wrong("acme+puller")).header("retry-after").parse().unwrap_or_default();
            assert!(again <= wait, "{again} after {wait}");
        }
        within(EFFECT, || (login(&http, &wrong("acme+puller")).status == 401).then_some(()));
    }
    assert_eq!(waits.len(), 3);
    assert!(waits[0] < waits[2] && waits.is_sorted() && waits[2] <= 4, "{waits:?}");
}

#[test]
fn an_address_that_tries_many_names_is_slowed() {
    let scene = Scene::with(guarded);
    let http = scene.gateway.http().from([127, 0, 0, 91]);
    let mut answers = (0..40).map(|number| login(&http, &wrong(&format!("acme+robot{number}"))));
    let slowed = answers.find(|answer| answer.status != 401).expect("forty names in a row were not slowed");
    limited(slowed, "login-failures-per-address");
    // Nobody else is.
    login(&scene.gateway.http().from([127, 0, 0, 92]), &scene.acme.pull.credentials()).expect(200);
}

#[test]
fn wrong_refresh_tokens_slow_their_address_and_right_ones_never_wait() {
    let scene = Scene::with(|builder| builder.set("limits.login_failures_per_address", "3/d"));
    let http = scene.gateway.http().from([127, 0, 0, 93]);
    let answer = http.get("/token?service=portcullis&offline_token=true").with(&scene.acme.pull.credentials()).send();
    let right = answer.expect(200).json()["refresh_token"].as_str().expect("a refresh token").to_owned();
    let refresh = |token: &str| {
        let form = [("grant_type", "refresh_token"), ("service", "portcullis"), ("refresh_token", token)];
        http.post("/token").form(&form).send()
    };
    let slowed = (0..10).map(|_| refresh("eyJ.e30.x")).find(|answer| answer.status != 401);
    limited(slowed.expect("ten failures in a row were not slowed"), "login-failures-per-address");
    refresh(&right).expect(200);
    assert!(metric(&scene.gateway.metrics(), "portcullis_login_failures_total", "kind=\"refresh-token\"") >= 4.0);
}

#[test]
fn a_robots_logins_are_requests_of_its_own() {
    let scene = Scene::with(|builder| builder.set("limits.requests_per_robot", "3/d"));
    let (http, right) = (scene.gateway.http(), scene.acme.pull.credentials());
    (0..3).for_each(|_| drop(login(&http, &right).expect(200)));
    limited(login(&http, &right), "requests-per-robot");
    login(&http, &scene.acme.push.credentials()).expect(200);
}
