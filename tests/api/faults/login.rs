//! The gateway's own login at the upstream: its secret goes where the configuration says, and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use portcullis_tests::faults::{Answer, Faults, Seen};
use portcullis_tests::gateway::{Builder, Gateway};
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{IMAGE, Manifest};
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::House;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::NamedTempFile;
use toml_edit::{InlineTable, Value};

const SECRET: &str = "the-gateways-own-secret";

fn password(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("the directory for temporary files is writable");
    std::fs::write(file.path(), text).expect("our own file");
    file
}

fn auth(kind: &str, username: &str, password: &NamedTempFile) -> InlineTable {
    let mut auth = InlineTable::new();
    auth.insert("kind", kind.into());
    auth.insert("username", username.into());
    auth.insert("password_file", password.path().to_string_lossy().into_owned().into());
    auth
}

fn bearer(upstream: &Faults, password: &NamedTempFile, realm_hosts: &[&str]) -> Builder {
    let mut auth = auth("bearer", "gateway", password);
    auth.insert("realm_hosts", Value::Array(realm_hosts.iter().copied().collect()));
    Gateway::before(&upstream.url()).set("upstream.auth", auth)
}

fn host(faults: &Faults) -> String {
    faults.url().trim_start_matches("http://").to_owned()
}

/// An upstream that takes tokens, `tok-1` and so on, as long as `valid` says; its challenge leads to `realm`.
fn token_upstream(realm: String, valid: Arc<AtomicUsize>) -> Faults {
    Faults::scripted(move |seen| {
        if seen.header("authorization") != format!("Bearer tok-{}", valid.load(Ordering::SeqCst)) {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"up\",scope=\"repository:evil:*\"");
            return Answer::status(401).header("www-authenticate", &challenge);
        }
        match seen.method.as_str() {
            "PUT" => Answer::status(201),
            "POST" => Answer::status(202).header("location", "/v2/acme/app/blobs/uploads/1"),
            _ => Answer::status(200).header("content-type", IMAGE).body("{}"),
        }
    })
}

/// A token endpoint that gives `tok-<valid>`, and counts.
fn token_server(valid: Arc<AtomicUsize>) -> Faults {
    Faults::scripted(move |_| {
        let token = format!("tok-{}", valid.load(Ordering::SeqCst));
        Answer::status(200).body(format!("{{\"token\":\"{token}\",\"expires_in\":300}}"))
    })
}

#[test]
fn a_registry_with_a_password_is_used_with_the_gateways_own() {
    let registry = Registry::with_login();
    let Credentials::Basic(username, secret) = registry.credentials() else { unreachable!("it wants a password") };
    let file = password(&format!("{secret}\n"));
    let house = House::open(Gateway::before(&registry.url()).set("upstream.auth", auth("basic", &username, &file)));
    let (repository, image) = (house.acme("app"), Manifest::image(2, 1000));
    repository.push("1.0", &image);
    repository.pull("1.0", &image);
    repository.delete("1.0").expect(202);
    house.globex("app").manifest("1.0").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_password_that_the_upstream_refuses_is_the_gateways_failure_not_the_clients() {
    let registry = Registry::with_login();
    let file = password("wrong");
    let house = House::open(Gateway::before(&registry.url()).set("upstream.auth", auth("basic", "gateway", &file)));
    for answer in [
        house.acme("app").manifest("1.0"),
        house.acme("app").put_manifest("1.0", &Manifest::image(0, 0)),
        house.acme("app").request(Method::POST, "blobs/uploads/").send(),
    ] {
        if answer.status == 400 {
            continue; // Its blobs are not there, which is known without the upstream.
        }
        let answer = answer.refused(502, "UNAVAILABLE");
        assert_eq!(answer.header("www-authenticate"), "", "{answer}");
    }
}

#[test]
fn an_upstreams_challenge_goes_no_further() {
    let thief = Faults::scripted(|_| Answer::status(200).body("{\"token\":\"x\"}"));
    for status in [401, 403] {
        let realm = format!("Bearer realm=\"{}/token\",service=\"x\"", thief.url());
        let upstream = Faults::scripted(move |seen| {
            if seen.path() == "/v2/" {
                Answer::status(200)
            } else {
                Answer::status(status).header("www-authenticate", &realm)
            }
        });
        let house = House::open(Gateway::before(&upstream.url()));
        let answer = house.acme("app").manifest("1.0").refused(502, "UNAVAILABLE");
        assert!(
            !answer.to_string().contains(&host(&thief)) && answer.header("www-authenticate").is_empty(),
            "{answer}"
        );
        let Credentials::Basic(_, secret) = house.acme.admin.credentials() else { unreachable!("a robot's") };
        let told = format!("{:?}", upstream.seen());
        assert!(!told.contains(&secret) && !told.contains("authorization"), "the robot's secret went upstream");
    }
    assert!(thief.seen().is_empty());
}

#[test]
fn tokens_are_fetched_from_the_listed_realm_kept_and_renewed() {
    let valid = Arc::new(AtomicUsize::new(1));
    let tokens = token_server(valid.clone());
    let upstream = token_upstream(format!("{}/auth?x=1", tokens.url()), valid.clone());
    let file = password(SECRET);
    let mut gateway = bearer(&upstream, &file, &[&host(&tokens)]).stopped();
    let acme = gateway.persona_unasked("acme");
    gateway.serve();
    let repository = gateway.repository("acme/app", &acme.admin.credentials());
    for _ in 0..3 {
        repository.manifest("1.0").expect(200);
    }
    let asked = |tokens: &Faults| {
        let for_app = |seen: &Seen| seen.target.contains("acme%2Fapp");
        tokens.seen().into_iter().filter(for_app).collect::<Vec<_>>()
    };
    let first = asked(&tokens);
    assert_eq!(first.len(), 1, "one token for three pulls: {first:?}");
    assert!(
        first[0].target.starts_with("/auth?x=1&service=up&scope=repository%3Aacme%2Fapp%3A"),
        "{}",
        first[0].target
    );
    let expected = format!("Basic {}", STANDARD.encode(format!("gateway:{SECRET}")));
    assert_eq!(first[0].header("authorization"), expected);
    assert!(upstream.seen().iter().all(|seen| !seen.header("authorization").starts_with("Basic")));

    valid.store(2, Ordering::SeqCst);
    repository.manifest("1.0").expect(200);
    assert_eq!(asked(&tokens).len(), 2, "a refused token is renewed once");

    // A body that is on its way cannot be sent again; the next one is sent with a new token.
    let location = repository.open_upload();
    valid.store(3, Ordering::SeqCst);
    repository.at(Method::PATCH, &location).body("abc").send().refused(502, "UNAVAILABLE");
    repository.manifest("1.0").expect(200);
}

#[test]
fn a_realm_that_is_not_listed_gets_nothing() {
    let valid = Arc::new(AtomicUsize::new(1));
    let (tokens, thief) = (token_server(valid.clone()), token_server(valid.clone()));
    let upstream = token_upstream(format!("{}/token", thief.url()), valid);
    let file = password(SECRET);
    let mut gateway = bearer(&upstream, &file, &[&host(&tokens)]).stopped();
    let acme = gateway.persona_unasked("acme");
    gateway.serve();
    let repository = gateway.repository("acme/app", &acme.admin.credentials());
    repository.manifest("1.0").refused(502, "UNAVAILABLE");
    repository.request(Method::POST, "blobs/uploads/").send().refused(502, "UNAVAILABLE");
    assert!(thief.seen().is_empty(), "{:?}", thief.seen());
    assert!(tokens.seen().is_empty());
    let told = format!("{:?}", upstream.seen());
    assert!(!told.contains(SECRET) && !told.contains("Basic"), "{told}");
}

#[test]
fn a_token_endpoint_that_refuses_or_talks_nonsense_is_502() {
    let valid = Arc::new(AtomicUsize::new(1));
    for answer in [
        Answer::status(401),
        Answer::status(403),
        Answer::status(500),
        Answer::status(302).header("location", "http://127.0.0.1:1/"),
        Answer::status(200).body("no token"),
        Answer::status(200).body("{}"),
        Answer::status(200).body("{\"token\":\"a\\r\\nb\"}"),
        Answer::status(200).body("{\"token\":\"refused\"}"),
        Answer::hang_up(),
    ] {
        let tokens = Faults::scripted(move |_| answer.clone());
        let upstream = token_upstream(format!("{}/token", tokens.url()), valid.clone());
        let file = password(SECRET);
        let mut gateway = bearer(&upstream, &file, &[&host(&tokens)]).stopped();
        let acme = gateway.persona_unasked("acme");
        gateway.serve();
        gateway.repository("acme/app", &acme.pull.credentials()).manifest("1.0").refused(502, "UNAVAILABLE");
    }
}
