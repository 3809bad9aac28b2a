//! Requests of one client address, before anything else is looked at.

use super::{limited, refused};
use portcullis_tests::http::Credentials;
use portcullis_tests::scene::Scene;

#[test]
fn an_address_has_its_requests_and_no_more_whatever_they_are_for() {
    let scene = Scene::with(|builder| builder.set("limits.requests_per_address", "5/d"));
    let http = scene.gateway.http().from([127, 0, 0, 9]);
    http.get("/v2/").send().expect(401);
    http.get("/token?service=portcullis").send().expect(401);
    http.get("/.well-known/jwks.json").send().expect(200);
    http.get("/nowhere").send().expect(404);
    http.get("/v2/").http2().send().expect(401);
    for path in ["/v2/", "/token?service=portcullis", "/.well-known/jwks.json", "/nowhere"] {
        let answer = limited(http.get(path).send(), "requests-per-address");
        assert_eq!(answer.header("ratelimit-policy"), "\"requests-per-address\";q=5;w=86400");
        assert_eq!(answer.header("www-authenticate"), "", "{answer}");
        assert_eq!(answer.header("ratelimit-limit"), "", "it is no limit on pulls: {answer}");
        assert!(answer.json().to_string().contains("your address 127.0.0.9 has had its 5 requests per d"), "{answer}");
    }
    let head = http.head("/v2/").send().expect(429);
    assert!(head.body.is_empty() && !head.header("retry-after").is_empty(), "{head}");
    limited(http.get("/v2/").http2().send(), "requests-per-address");
    // Another address has its own.
    let other = scene.gateway.http().from([127, 0, 0, 10]);
    other.get("/v2/").with(&scene.acme.pull.credentials()).send().expect(200);
    assert!(refused(&scene.gateway, "requests-per-address") >= 6.0);
}

#[test]
fn who_is_over_the_limit_is_told_so_before_any_token_is_looked_at() {
    let scene = Scene::with(|builder| builder.set("limits.requests_per_address", "2/d"));
    let http = scene.gateway.http().from([127, 0, 0, 11]);
    let forged = Credentials::Bearer("eyJhbGciOiJFZERTQSJ9.e30.AAAA".to_owned());
    let wrong = Credentials::Basic("acme+pusher".to_owned(), "pcr_wrong".to_owned());
    http.get("/v2/acme/app/tags/list").with(&forged).send().expect(401);
    http.get("/v2/acme/app/tags/list").with(&wrong).send().expect(401);
    for who in [&forged, &wrong, &scene.acme.push.credentials()] {
        limited(http.get("/v2/acme/app/tags/list").with(who).send(), "requests-per-address");
        limited(http.get("/token?service=portcullis").with(who).send(), "requests-per-address");
    }
    // No login was looked at, so none has failed.
    let failures = portcullis_tests::gateway::metric(&scene.gateway.metrics(), "portcullis_login_failures_total", "");
    assert!((failures - 1.0).abs() < 0.1, "{failures}");
}

#[test]
fn time_brings_requests_back_and_a_refused_one_costs_nothing() {
    let scene = Scene::with(|builder| builder.set("limits.requests_per_address", "3/3s"));
    let http = scene.gateway.http().from([127, 0, 0, 12]);
    let mut answers = Vec::new();
    let begun = std::time::Instant::now();
    while answers.iter().filter(|status| **status == 401).count() < 6 {
        answers.push(http.get("/v2/").send().status);
    }
    assert!(begun.elapsed() >= std::time::Duration::from_millis(2900), "three more in less than three seconds");
    assert!(answers.contains(&429), "{answers:?}");
}

#[test]
fn many_addresses_take_no_more_keys_than_there_is_room_for() {
    let scene = Scene::with(|builder| builder.set("limits.keys", 256).set("limits.requests_per_address", "1000/d"));
    let http = scene.gateway.http();
    for number in 0..400_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        http.from([127, 1, high, low]).get("/v2/").send().expect(401);
    }
    let metrics = scene.gateway.metrics();
    let keys = portcullis_tests::gateway::metric(&metrics, "portcullis_limit_keys", "kind=\"address\"");
    assert!((100.0..=256.0).contains(&keys), "{keys}");
    assert!(
        portcullis_tests::gateway::metric(&metrics, "portcullis_limit_keys_forgotten_total", "") >= 144.0,
        "{metrics}"
    );
}
