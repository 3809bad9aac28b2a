//! Access tokens: which are believed, how small they stay, where clients are sent for them, and which key signs them.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_tests::gateway::{Gateway, parameter};
use portcullis_tests::http::{Credentials, Http, Response};
use portcullis_tests::image::Manifest;
use portcullis_tests::mint::{self, Mint, Parts, parts};
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{EFFECT, Scene, within};
use serde_json::{Value, json};
use std::time::Duration;

const SCOPE: &str = "repository:acme/app:pull";

/// A repository with something in it, so that an allowed request ends with 200.
fn stocked() -> (std::sync::Arc<Scene>, Credentials) {
    let scene = Scene::shared();
    let pusher = scene.acme.push.credentials();
    scene.gateway.repository("acme/app", &pusher).push("1", &Manifest::image(1, 100));
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &[SCOPE]);
    (scene, token)
}

fn tags(http: &Http, token: &Credentials) -> Response {
    http.get("/v2/acme/app/tags/list").with(token).send()
}

#[track_caller]
fn is_invalid(http: &Http, token: &Credentials) {
    for path in ["/v2/acme/app/tags/list", "/v2/", "/v2/_catalog"] {
        let answer = http.get(path).with(token).send().refused(401, "UNAUTHORIZED");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""), "{answer}");
    }
}

fn signed_by(token: &Credentials, change: impl FnOnce(&mut Parts), sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Credentials {
    let mut parts = parts(mint::text(token));
    change(&mut parts);
    let message = parts.encoded();
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    Credentials::Bearer(format!("{message}.{signature}"))
}

#[test]
fn a_token_that_the_gateway_did_not_sign_is_refused_whatever_it_says_of_itself() {
    let (scene, token) = stocked();
    let http = scene.gateway.http();
    tags(&http, &token).expect(200);
    let public = http.get("/.well-known/jwks.json").send().expect(200).json()["keys"][0].clone();
    let public = URL_SAFE_NO_PAD.decode(public["x"].as_str().expect("a text")).expect("base64url");
    let kid = parts(mint::text(&token)).header["kid"].clone();

    // No algorithm at all, with and without a signature.
    for none in ["none", "None", "NONE"] {
        let unsigned = |parts: &mut Parts| parts.header["alg"] = json!(none);
        is_invalid(&http, &signed_by(&token, unsigned, |_| Vec::new()));
        is_invalid(&http, &signed_by(&token, unsigned, |_| vec![0; 64]));
    }
    // The public key as the secret of an HMAC.
    for kid in [kid.clone(), json!("refresh"), Value::Null] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        let swapped = |parts: &mut Parts| {
            parts.header["alg"] = json!("HS256");
            parts.header["kid"] = kid.clone();
        };
        is_invalid(&http, &signed_by(&token, swapped, |message| hmac::sign(&key, message).as_ref().to_vec()));
    }
    // A key of the attacker's own, under our kid, under its own, and carried along in the token.
    let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random numbers");
    let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).expect("a key");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())});
    let foreign: [&dyn Fn(&mut Parts); 4] =
        [&|_| {}, &|parts| parts.header["kid"] = json!("mine"), &|parts| parts.header["jwk"] = jwk.clone(), &|parts| {
            parts.header["jwk"] = jwk.clone();
            parts.header["jku"] = json!("http://127.0.0.1:1/keys");
            parts.header.as_object_mut().expect("an object").remove("kid");
        }];
    for change in foreign {
        is_invalid(&http, &signed_by(&token, change, |message| pair.sign(message).as_ref().to_vec()));
    }
}

#[test]
fn a_token_is_refused_where_any_part_of_it_was_changed() {
    let (scene, token) = stocked();
    let http = scene.gateway.http();
    let text = mint::text(&token);
    let (message, signature) = text.rsplit_once('.').expect("a token");
    let (header, _) = message.split_once('.').expect("a token");
    let mut wider = parts(text);
    wider.claims["access"][0]["name"] = json!("globex/app");
    let (_, wider) = wider.encoded().split_once('.').map(|(h, c)| (h.to_owned(), c.to_owned())).expect("two parts");
    let odd = [
        format!("{header}.{wider}.{signature}"),
        format!("{message}."),
        message.to_owned(),
        format!("{text}."),
        format!("{text}=="),
        format!(".{text}"),
        format!("{message}.{}", signature.replacen(signature.get(..4).expect("long"), "AAAA", 1)),
        "a.b.c".to_owned(),
        "x".to_owned(),
    ];
    for changed in odd {
        is_invalid(&http, &Credentials::Bearer(changed));
    }
    tags(&http, &token).expect(200);
}

#[test]
fn a_token_longer_than_any_that_is_issued_is_refused_unread() {
    let (scene, token) = stocked();
    let http = scene.gateway.http();
    let mint = Mint::of(&scene.gateway);
    // Signed by the right key: its length alone is what is wrong with it.
    let padded = |bytes: usize| mint.changed(&token, |parts| parts.claims["padding"] = json!("x".repeat(bytes)));
    tags(&http, &padded(100)).expect(200);
    is_invalid(&http, &padded(8 * 1024));
}

#[test]
fn a_token_counts_only_in_its_time_and_for_whom_it_was_issued() {
    let (scene, token) = stocked();
    let http = scene.gateway.http();
    let mint = Mint::of(&scene.gateway);
    let changed = |claim: &'static str, value: Value| mint.changed(&token, move |parts| parts.claims[claim] = value);
    let now = mint::now();

    // Clocks may be a minute apart, either way.
    tags(&http, &changed("exp", json!(now - 30))).expect(200);
    is_invalid(&http, &changed("exp", json!(now - 61)));
    is_invalid(&http, &changed("exp", json!(0)));
    tags(&http, &changed("nbf", json!(now + 30))).expect(200);
    is_invalid(&http, &changed("nbf", json!(now + 90)));
    is_invalid(&http, &changed("iat", json!(now + 90)));
    is_invalid(&http, &mint.earlier(&token, -3600));

    tags(&http, &changed("aud", json!(["somebody", "portcullis"]))).expect(200);
    for audience in [json!("somebody"), json!(["somebody"]), json!(""), json!([])] {
        is_invalid(&http, &changed("aud", audience));
    }
    is_invalid(&http, &changed("iss", json!("somebody")));
    is_invalid(&http, &changed("iss", Value::Null));
    for claim in ["exp", "nbf", "iat", "aud", "iss", "jti", "access", "projects"] {
        let without = mint.changed(&token, |parts| {
            parts.claims.as_object_mut().expect("an object").remove(claim);
        });
        is_invalid(&http, &without);
    }
    // Of another kind, though signed by the very key.
    for typ in [json!("JWT"), json!("portcullis-refresh+jwt"), Value::Null] {
        is_invalid(&http, &mint.changed(&token, |parts| parts.header["typ"] = typ));
    }
    is_invalid(&http, &mint.changed(&token, |parts| parts.header["crit"] = json!(["exp"])));
}

#[test]
fn even_a_rightly_signed_token_gives_no_more_than_its_robot_is_granted_now() {
    let (scene, token) = stocked();
    scene.gateway.repository("globex/app", &scene.globex.push.credentials()).push("1", &Manifest::image(1, 100));
    let http = scene.gateway.http();
    let globex = scene.gateway.token(&scene.globex.pull.credentials(), &["repository:globex/app:pull"]);
    let project = parts(mint::text(&globex)).claims["projects"]["globex"].clone();
    let wider = Mint::of(&scene.gateway).changed(&token, |parts| {
        parts.claims["access"] = json!([
            {"type": "repository", "name": "acme/app", "actions": ["pull", "push", "delete"]},
            {"type": "repository", "name": "globex/app", "actions": ["pull"]},
        ]);
        parts.claims["projects"]["globex"] = project;
    });
    tags(&http, &wider).expect(200);
    http.get("/v2/globex/app/tags/list").with(&wider).send().refused(401, "UNAUTHORIZED");
    http.post("/v2/acme/app/blobs/uploads/").with(&wider).send().refused(401, "UNAUTHORIZED");
}

#[test]
fn two_hundred_scopes_make_a_small_token_that_is_good_for_exactly_these() {
    let (scene, _) = stocked();
    let pusher = scene.acme.push.credentials();
    let image = Manifest::image(1, 100);
    for name in ["acme/many/app-7", "acme/many/app-200"] {
        scene.gateway.repository(name, &pusher).push("1", &image);
    }
    let scopes: Vec<String> = (0..200).map(|n| format!("repository:acme/many/app-{n}:pull")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &scopes);
    assert!(mint::text(&token).len() < 4096, "{} bytes", mint::text(&token).len());
    let http = scene.gateway.http();
    let ask = |name: &str| http.get(&format!("/v2/{name}/tags/list")).with(&token).send();
    ask("acme/many/app-7").expect(200);
    ask("acme/many/app-199").refused(404, "NAME_UNKNOWN");
    for not_asked in ["acme/many/app-200", "acme/many/app", "acme/many/app-7/x", "acme/app", "globex/app"] {
        ask(not_asked).refused(401, "UNAUTHORIZED");
    }
    let write = http.post("/v2/acme/many/app-7/blobs/uploads/").with(&token).send();
    write.refused(401, "UNAUTHORIZED");

    // The set is named by its contents: another one, or one that nobody stored, is not to be had.
    let mint = Mint::of(&scene.gateway);
    let unknown = mint.changed(&token, |parts| parts.claims["scope_set"] = json!("A".repeat(43)));
    is_invalid(&http, &unknown);
}

#[test]
fn the_realm_has_the_host_that_the_client_used_and_any_other_host_is_misdirected() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url())
        .set("server.hosts", toml_edit::Value::from_iter(["127.0.0.1", "::1", "registry.internal"]))
        .start();
    let http = gateway.http();
    let port = gateway.authority().rsplit_once(':').expect("host:port").1.to_owned();
    let ping = |host: &str| http.get("/v2/").header("host", host).send();
    for host in ["localhost", "127.0.0.1", "[::1]", "registry.internal"] {
        // The port is the configured one, whatever the client's proxy made of it.
        for asked in [format!("{host}:{port}"), host.to_owned(), format!("{host}:1")] {
            let answer = ping(&asked).refused(401, "UNAUTHORIZED");
            let challenge = answer.header("www-authenticate");
            assert_eq!(parameter(&challenge, "realm"), format!("https://{host}:{port}/token"), "{answer}");
            assert_eq!(parameter(&challenge, "service"), "portcullis");
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        }
    }
    let answer = ping("LOCALHOST").expect(401);
    assert_eq!(parameter(&answer.header("www-authenticate"), "realm"), format!("https://localhost:{port}/token"));
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.2", "[::2]", "evil.example@localhost", "localhost:x"]
    {
        for path in ["/v2/", "/token", "/.well-known/jwks.json", "/v2/acme/app/tags/list"] {
            let answer = http.get(path).header("host", host).send().expect(421);
            assert!(!answer.headers.contains_key("www-authenticate"), "{answer}");
        }
    }
}

#[test]
fn ipv6_works_from_the_challenge_to_the_pull() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url());
    let gateway = gateway.reached_as("[::1]", std::net::Ipv6Addr::LOCALHOST.into()).start();
    let acme = gateway.persona("acme");
    assert!(acme.pull.registry.starts_with("[::1]:"), "{acme:?}");
    let challenge = gateway.http().get("/v2/").send().expect(401).header("www-authenticate");
    assert_eq!(parameter(&challenge, "realm"), format!("{}/token", gateway.origin()));
    let image = Manifest::image(1, 100);
    let token = gateway.token(&acme.push.credentials(), &["repository:acme/app:pull,push"]);
    gateway.repository("acme/app", &token).push("1", &image);
    gateway.repository("acme/app", &token).pull("1", &image);
}

#[test]
fn a_new_key_takes_over_on_every_node_and_the_old_ones_tokens_go_on() {
    let scene = Scene::open();
    let mut second = scene.gateway.second_node();
    second.serve();
    let nodes = [&scene.gateway, &second];
    let who = scene.acme.pull.credentials();
    let kid = |token: &Credentials| parts(mint::text(token)).header["kid"].clone();
    let old = scene.gateway.token(&who, &["registry:catalog:*"]);
    for node in nodes {
        assert_eq!(kid(&node.token(&who, &[])), kid(&old), "the nodes sign with different keys");
    }
    scene.gateway.cli(&["key", "rotate"]);
    for node in nodes {
        // The new key is published before it signs, so that no node meets a token of a key that it does not know.
        let published = || node.http().get("/.well-known/jwks.json").send().expect(200).json();
        let both = |set: &Value| set["keys"].as_array().is_some_and(|keys| keys.len() == 2);
        let set = within(EFFECT, || Some(published()).filter(both));
        assert!(set["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["kid"] == kid(&old))), "{set}");
    }
    let new = within(Duration::from_secs(15), || {
        Some(scene.gateway.token(&who, &["registry:catalog:*"])).filter(|token| kid(token) != kid(&old))
    });
    within(EFFECT, || Some(second.token(&who, &[])).filter(|token| kid(token) == kid(&new)));
    for node in nodes {
        for token in [&old, &new] {
            node.http().get("/v2/_catalog").with(token).send().expect(200);
        }
    }
}

#[test]
fn es256_signs_where_it_is_chosen() {
    let registry = Registry::start();
    let gateway = Gateway::before(&registry.url()).set("tokens.algorithm", "es256").start();
    let acme = gateway.persona("acme");
    let token = gateway.token(&acme.pull.credentials(), &["registry:catalog:*"]);
    let text = mint::text(&token);
    let header = parts(text).header;
    assert_eq!(header["alg"], "ES256");
    let set = gateway.http().get("/.well-known/jwks.json").send().expect(200).json();
    let coordinate =
        |name: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][name].as_str().expect("a text")).expect("base64url");
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (message, signature) = text.rsplit_once('.').expect("a token");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(message.as_bytes(), &signature).expect("its signature");
    gateway.http().get("/v2/_catalog").with(&token).send().expect(200);
    for swapped in ["EdDSA", "HS256", "none", "ES384"] {
        let changed = signed_by(&token, |parts| parts.header["alg"] = json!(swapped), |_| signature.clone());
        is_invalid(&gateway.http(), &changed);
    }
}

#[test]
fn a_token_for_a_deleted_project_is_worth_nothing_in_a_new_one_of_the_same_name() {
    let registry = Registry::start();
    // A purge waits until every node has heard of the deletion, or denies everything.
    let gateway = Gateway::before(&registry.url()).set("store.stale_max_s", 5).start();
    let http = gateway.http();
    let create = ["project", "create", "acme", "--public", "--adopt"];
    gateway.cli(&create);
    let pusher = gateway.robot("acme", "pusher", &["--role", "push"]);
    gateway.repository("acme/app", &pusher.credentials()).push("1", &Manifest::image(1, 100));
    let globex = gateway.persona("globex");
    let own = gateway.token(&pusher.credentials(), &["repository:acme/app:pull,push"]);
    let foreign = gateway.token(&globex.pull.credentials(), &[SCOPE]);
    let anonymous = gateway.token(&Credentials::None, &[SCOPE]);
    let tokens = [own, foreign, anonymous];
    for token in &tokens {
        tags(&http, token).expect(200);
    }
    gateway.cli(&["project", "delete", "acme", "--yes"]);
    for token in &tokens {
        within(EFFECT, || Some(tags(&http, token)).filter(|answer| answer.status == 401));
    }
    gateway.cli(&["project", "delete", "acme", "--yes", "--purge"]);
    gateway.cli(&create);
    // Everybody may pull there again, who asks for it anew.
    within(EFFECT, || {
        let anew = gateway.token(&Credentials::None, &[SCOPE]);
        Some(tags(&http, &anew)).filter(|answer| answer.status != 401)
    });
    for token in &tokens {
        tags(&http, token).refused(401, "UNAUTHORIZED");
    }
    gateway.ask_token(&pusher.credentials(), &[SCOPE]).refused(401, "UNAUTHORIZED");
}
