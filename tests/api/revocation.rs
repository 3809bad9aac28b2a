//! What is taken away is gone from tokens already issued, on every node, within two seconds; and what an upload may do when
//! its token has ended.

mod slow_pushes;

use http::Method;
use portcullis_tests::gateway::{Builder, Gateway};
use portcullis_tests::http::{Credentials, Http, Response};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::mint::{self, Mint};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{EFFECT, Scene, within};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SCOPE: &str = "repository:acme/app:pull,push";

fn tags(node: &Gateway, who: &Credentials) -> Response {
    node.http().get("/v2/acme/app/tags/list").with(who).send()
}

/// Takes rights away in every way there is, and looks at tokens issued before, on two nodes with one store.
fn taken_away_on_two_nodes(configure: impl FnOnce(Builder) -> Builder) {
    let scene = Scene::with(configure);
    let mut second = scene.gateway.second_node();
    second.serve();
    let (gateway, nodes) = (&scene.gateway, [&scene.gateway, &second]);
    gateway.repository("acme/app", &scene.acme.push.credentials()).push("1", &Manifest::image(1, 100));
    let bystander = gateway.token(&scene.acme.pull.credentials(), &[SCOPE]);

    let gone = |who: [&Credentials; 2], command: &[&str]| {
        for node in nodes {
            for who in who {
                tags(node, who).expect(200);
            }
        }
        gateway.cli(command);
        let refused = |node: &Gateway, who: &Credentials| {
            within(EFFECT, || Some(tags(node, who)).filter(|answer| answer.status != 200)).refused(401, "UNAUTHORIZED")
        };
        for node in nodes {
            for who in who {
                refused(node, who);
            }
            if !command.contains(&"acme") || command[0] != "project" {
                tags(node, &bystander).expect(200);
            }
        }
    };
    let robot = |name: &str| {
        let robot = gateway.robot("acme", name, &["--role", "push"]).credentials();
        (gateway.token(&robot, &[SCOPE]), robot)
    };

    let (token, basic) = robot("disabled");
    gone([&token, &basic], &["robot", "disable", "acme", "disabled"]);
    gateway.cli(&["robot", "enable", "acme", "disabled"]);
    for node in nodes {
        within(EFFECT, || Some(tags(node, &token)).filter(|answer| answer.status == 200));
    }

    let (token, basic) = robot("deleted");
    gone([&token, &basic], &["robot", "delete", "acme", "deleted"]);
    // A robot of the same name is another one.
    let namesake = gateway.robot("acme", "deleted", &["--role", "push"]).credentials();
    within(EFFECT, || Some(tags(gateway, &namesake)).filter(|answer| answer.status == 200));
    for node in nodes {
        tags(node, &token).refused(401, "UNAUTHORIZED");
    }

    let (token, basic) = robot("rotated");
    gone([&token, &basic], &["robot", "rotate", "acme", "rotated", "--grace", "0s"]);

    let guest = gateway.robot("globex", "guest", &["--grant", "acme/*=pull"]).credentials();
    let grant = gateway.foreign_grant("acme");
    let token = gateway.token(&guest, &[SCOPE]);
    for node in nodes {
        tags(node, &guest).refused(401, "UNAUTHORIZED");
        tags(node, &token).refused(401, "UNAUTHORIZED");
    }
    gateway.cli(&["grant", "accept", &grant]);
    let token = within(EFFECT, || {
        let token = gateway.token(&guest, &[SCOPE]);
        let all = nodes.iter().all(|node| tags(node, &token).status == 200 && tags(node, &guest).status == 200);
        all.then_some(token)
    });
    gone([&token, &guest], &["grant", "refuse", &grant]);
    gateway.cli(&["grant", "accept", &grant]);
    for node in nodes {
        within(EFFECT, || Some(tags(node, &token)).filter(|answer| answer.status == 200));
    }
    // With its own project a robot loses what it has elsewhere.
    gone([&token, &guest], &["project", "delete", "globex", "--yes"]);

    gone([&bystander, &scene.acme.push.credentials()], &["project", "delete", "acme", "--yes"]);
}

#[test]
fn rights_are_taken_from_issued_tokens_on_two_nodes_with_sqlite() {
    taken_away_on_two_nodes(|builder| builder);
}

#[test]
fn rights_are_taken_from_issued_tokens_on_two_nodes_with_postgresql() {
    taken_away_on_two_nodes(|builder| builder.postgres(&Postgres::shared()));
}

#[test]
fn a_robot_is_looked_at_from_where_it_comes_at_every_use() {
    let registry = Registry::start();
    let gateway =
        Gateway::before(&registry.url()).set("server.hosts", toml_edit::Value::from_iter(["127.0.0.1", "::1"]));
    let mut gateway = gateway.stopped();
    let port = gateway.authority().rsplit_once(':').expect("host:port").1.to_owned();
    let listen = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    gateway.set("server.listen", toml_edit::Value::from_iter(listen));
    gateway.serve();
    let acme = gateway.persona("acme");
    gateway.repository("acme/app", &acme.push.credentials()).push("1", &Manifest::image(1, 100));
    let (v4, v6) =
        ["127.0.0.1", "[::1]"].map(|host| Http::new(&format!("https://{host}:{port}"), Some(&gateway.ca()))).into();
    let tags = |http: &Http, who: &Credentials| http.get("/v2/acme/app/tags/list").with(who).send();
    let token = |http: &Http, who: &Credentials| http.get(&format!("/token?scope={SCOPE}")).with(who).send();
    for (networks, inside, outside) in [("127.0.0.0/8", &v4, &v6), ("::1", &v6, &v4)] {
        let name = if networks == "::1" { "six" } else { "four" };
        let who = gateway
            .robot("acme", name, &["--role", "pull", "--from", networks, "--from", "192.0.2.0/24"])
            .credentials();
        let answer = token(inside, &who).expect(200).json();
        let issued = Credentials::Bearer(answer["token"].as_str().expect("a token").to_owned());
        for who in [&who, &issued] {
            tags(inside, who).expect(200);
            tags(outside, who).refused(401, "UNAUTHORIZED");
            tags(inside, who).expect(200);
        }
        token(outside, &who).refused(401, "UNAUTHORIZED");
        let refresh = inside.get("/token?offline_token=true").with(&who).send().expect(200).json();
        let refresh = refresh["refresh_token"].as_str().expect("it was asked for");
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        inside.post("/token").form(&form).send().expect(200);
        outside.post("/token").form(&form).send().refused(401, "UNAUTHORIZED");
    }
    let anywhere = acme.pull.credentials();
    tags(&v4, &anywhere).expect(200);
    tags(&v6, &anywhere).expect(200);
}

#[test]
fn a_robot_ends_by_the_clock_and_its_tokens_with_it() {
    let scene = Scene::shared();
    let gateway = &scene.gateway;
    gateway.repository("acme/app", &scene.acme.push.credentials()).push("1", &Manifest::image(1, 100));
    let who = gateway.robot("acme", "brief", &["--role", "pull", "--expires", "10s"]).credentials();
    let token = gateway.token(&who, &[SCOPE]);
    tags(gateway, &token).expect(200);
    tags(gateway, &who).expect(200);
    within(Duration::from_secs(30), || Some(tags(gateway, &token)).filter(|answer| answer.status == 401));
    tags(gateway, &who).refused(401, "UNAUTHORIZED");
    gateway.ask_token(&who, &[SCOPE]).refused(401, "UNAUTHORIZED");
}

/// A token that will be refused in so many seconds: as it was issued, only earlier. Clocks may be 60 seconds apart.
fn about_to_end(gateway: &Gateway, who: &Credentials, scopes: &[&str], seconds: i64) -> Credentials {
    let token = gateway.token(who, scopes);
    let end = mint::parts(mint::text(&token)).claims["exp"].as_i64().expect("a number");
    Mint::of(gateway).earlier(&token, end - mint::now() + 60 - seconds)
}

fn has_ended(gateway: &Gateway, token: &Credentials) {
    let ping = || gateway.http().get("/v2/").with(token).send();
    within(Duration::from_secs(40), || Some(ping()).filter(|answer| answer.status == 401));
}

fn patch(repository: &Repository, location: &str, range: &str, bytes: &[u8]) -> Response {
    repository
        .at(Method::PATCH, location)
        .header("content-type", "application/octet-stream")
        .header("content-range", range)
        .body(bytes.to_vec())
        .send()
}

#[test]
fn an_upload_that_began_in_time_ends_after_its_token_and_nothing_else_does() {
    let scene = Scene::open();
    let gateway = &scene.gateway;
    let mut second = gateway.second_node();
    second.serve();
    let who = scene.acme.admin.credentials();
    let scopes = ["repository:acme/app:*", "repository:acme/other:*"];
    let fresh = gateway.repository("acme/app", &who);
    let image = Manifest::image(1, 100);
    fresh.push("1", &image);
    let ending = about_to_end(gateway, &who, &scopes, 15);
    let old = gateway.repository("acme/app", &ending);
    let blob = Blob::random(2000);
    let location = old.open_upload();
    let (begun, rest) = blob.bytes.split_at(700);
    let patched = patch(&old, &location, "0-699", begun).expect(202);
    let colleague = gateway.repository("acme/app", &scene.acme.push.credentials()).open_upload();
    has_ended(gateway, &ending);

    // Nothing but uploads under way.
    let digest = &image.blobs[0].digest;
    for (method, path) in [
        (Method::GET, "tags/list".to_owned()),
        (Method::GET, "manifests/1".to_owned()),
        (Method::HEAD, format!("blobs/{digest}")),
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::POST, format!("blobs/uploads/?mount={digest}&from=acme/other")),
        (Method::PUT, "manifests/2".to_owned()),
        (Method::DELETE, "manifests/1".to_owned()),
    ] {
        old.request(method, &path).send().expect(401);
    }
    // Not another robot's upload, nor one that began when this token had already ended, nor in another repository.
    let later = fresh.open_upload();
    let elsewhere = location.replace("acme/app", "acme/other");
    for (location, status) in [(&later, 401), (&colleague, 404), (&elsewhere, 404)] {
        patch(&old, location, "0-4", b"bytes").expect(status);
        old.at(Method::GET, location).send().expect(status);
        old.at(Method::DELETE, location).send().expect(status);
    }
    patch(&fresh, &later, "0-4", b"bytes").expect(202);

    // This one goes on to its end, on any node, and the blob counts.
    old.at(Method::GET, &patched.header("location")).send().expect(204);
    let elsewhere = second.repository("acme/app", &ending);
    let patched = patch(&elsewhere, &patched.header("location"), "700-1999", rest).expect(202);
    old.at(Method::PUT, &with_digest(&patched.header("location"), &blob.digest)).send().expect(201);
    assert!(fresh.blob(&blob.digest).expect(200).body == blob.bytes, "the blob differs from what was pushed");
    old.blob(&blob.digest).refused(401, "UNAUTHORIZED");
    // And is over then.
    old.at(Method::GET, &patched.header("location")).send().expect(404);
}

#[test]
fn an_upload_is_over_when_its_grace_is_whatever_the_token() {
    let scene = Scene::with(|builder| builder.set("tokens.upload_grace_s", 20));
    let gateway = &scene.gateway;
    let who = scene.acme.push.credentials();
    let ending = about_to_end(gateway, &who, &[SCOPE], 8);
    let old = gateway.repository("acme/app", &ending);
    let location = old.open_upload();
    let begun = Instant::now();
    has_ended(gateway, &ending);
    let status = |who: &Credentials| gateway.http().get(&location).with(who).send();
    status(&ending).expect(204);
    // By the clock, and not only when somebody sweeps.
    let left = Duration::from_secs(25).saturating_sub(begun.elapsed());
    within(left, || Some(status(&ending)).filter(|answer| answer.status != 204));
    let valid = gateway.token(&who, &[SCOPE]);
    status(&valid).expect(404);
    patch(&gateway.repository("acme/app", &valid), &location, "0-4", b"bytes").refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_does_not_outlive_a_revocation() {
    let scene = Scene::open();
    let gateway = &scene.gateway;
    let ends = |name: &str, command: &[&str]| {
        let who = gateway.robot("acme", name, &["--role", "push"]).credentials();
        let ending = about_to_end(gateway, &who, &[SCOPE], 10);
        let valid = gateway.token(&who, &[SCOPE]);
        let location = gateway.repository("acme/app", &ending).open_upload();
        has_ended(gateway, &ending);
        let write = |who: &Credentials| patch(&gateway.repository("acme/app", who), &location, "0-4", b"bytes");
        gateway.http().get(&location).with(&ending).send().expect(204);
        gateway.cli(command);
        for who in [&ending, &valid, &who] {
            within(EFFECT, || Some(write(who)).filter(|answer| answer.status == 401));
        }
    };
    ends("disabled", &["robot", "disable", "acme", "disabled"]);
    ends("deleted", &["robot", "delete", "acme", "deleted"]);
    ends("rotated", &["robot", "rotate", "acme", "rotated", "--grace", "0s"]);
    ends("orphan", &["project", "delete", "acme", "--yes"]);
}

#[test]
fn without_news_from_its_store_a_node_denies_everything_until_it_hears_again() {
    let registry = Registry::start();
    let postgres = Arc::new(Postgres::start());
    let gateway = Gateway::before(&registry.url()).postgres(&postgres).set("store.stale_max_s", 5).start();
    let acme = gateway.persona("acme");
    let who = acme.push.credentials();
    gateway.repository("acme/app", &who).push("1", &Manifest::image(1, 100));
    let token = gateway.token(&who, &[SCOPE]);
    tags(&gateway, &token).expect(200);
    let ready = || gateway.management().get("/readyz").send();
    within(Duration::from_secs(10), || Some(ready()).filter(|answer| answer.status == 200));

    postgres.kill();
    let denied = |ask: &dyn Fn() -> Response| {
        let answer = within(Duration::from_secs(30), || Some(ask()).filter(|answer| answer.status == 503));
        let answer = answer.refused(503, "UNAVAILABLE");
        assert!(answer.headers.contains_key("retry-after"), "{answer}");
    };
    let http = gateway.http();
    denied(&|| tags(&gateway, &token));
    denied(&|| tags(&gateway, &who));
    denied(&|| http.get("/v2/").with(&token).send());
    denied(&|| http.get("/v2/").send());
    denied(&|| http.get("/token?scope=repository:acme/app:pull").with(&who).send());
    denied(&|| http.get("/token?scope=repository:acme/app:pull").send());
    assert_eq!(ready().expect(503).json()["store"], false);
    gateway.management().get("/healthz").send().expect(200);

    postgres.revive();
    within(Duration::from_secs(20), || Some(tags(&gateway, &token)).filter(|answer| answer.status == 200));
    within(Duration::from_secs(10), || Some(ready()).filter(|answer| answer.status == 200));
    gateway.token(&who, &[SCOPE]);
}
