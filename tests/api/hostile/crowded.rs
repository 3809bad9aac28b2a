//! More than there is room for: the node's, and that of one address.

use http::Method;
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::http::{Http, Response, pieces};
use portcullis_tests::image::Blob;
use portcullis_tests::raw::{Approach, Raw};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{Scene, within};
use std::net::Ipv4Addr;
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// An upload that is under way until its body ends.
struct Open(portcullis_tests::http::Pieces, JoinHandle<Result<Response, String>>);

fn open_upload(scene: &Scene) -> Open {
    let repository = scene.acme("crowded");
    let (sender, body) = pieces();
    sender.send("x".repeat(1000));
    let put = repository.at(Method::PATCH, &repository.open_upload()).stream(body);
    Open(sender, std::thread::spawn(move || put.attempt()))
}

fn under_way(gateway: &Gateway, count: f64) {
    within(SOON, || (metric(&gateway.metrics(), "portcullis_requests_in_flight", "") == count).then_some(()));
}

fn shed(gateway: &Gateway, reason: &str) -> f64 {
    metric(&gateway.metrics(), "portcullis_shed_total", reason)
}

#[test]
fn a_node_with_all_that_it_can_bear_sheds_at_once_and_stays_healthy() {
    let scene = Scene::with(|builder| builder.set("limits.requests_under_way", 2));
    let open: Vec<Open> = (0..2)
        .map(|number| {
            let open = open_upload(&scene);
            under_way(&scene.gateway, f64::from(number + 1));
            open
        })
        .collect();
    // Whatever the credentials are: they are not looked at.
    for who in [scene.acme.admin.credentials(), Default::default()] {
        let answer = scene.gateway.http().get("/v2/").with(&who).send().refused(503, "UNAVAILABLE");
        assert_eq!(answer.header("retry-after"), "2", "{answer}");
        let id = answer.header("x-request-id");
        assert_eq!(answer.json()["errors"][0]["detail"]["request_id"], id.as_str());
    }
    assert_eq!(shed(&scene.gateway, "node"), 2.0);
    let management = scene.gateway.management();
    management.get("/healthz").send().expect(200);
    within(SOON, || (management.get("/readyz").send().status == 200).then_some(()));
    for Open(sender, patching) in open {
        drop(sender);
        patching.join().expect("no panic").expect("an answer").expect(202);
    }
    scene.gateway.http().get("/v2/").send().expect(401);
}

#[test]
fn one_address_has_a_share_of_the_requests_under_way() {
    let scene = Scene::with(|builder| builder.set("limits.requests_under_way_per_address", 1));
    let Open(sender, patching) = {
        let open = open_upload(&scene);
        under_way(&scene.gateway, 1.0);
        open
    };
    let answer = scene.gateway.http().get("/v2/").send().refused(429, "TOOMANYREQUESTS");
    assert_eq!(answer.header("retry-after"), "1", "{answer}");
    assert_eq!(shed(&scene.gateway, "address"), 1.0);
    // Another address is served.
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    let other = Approach::from(Ipv4Addr::new(127, 0, 0, 2));
    let answer = Raw::approach(&scene.gateway.http(), &other).send(&ping).answer().expect("an answer");
    assert_eq!(answer.status, 401);
    drop(sender);
    patching.join().expect("no panic").expect("an answer").expect(202);
    under_way(&scene.gateway, 0.0);
    scene.gateway.http().get("/v2/").send().expect(401);
}

#[test]
fn one_address_has_a_share_of_the_connections() {
    let scene = Scene::with(|builder| builder.set("limits.connections_per_address", 2));
    let http = scene.gateway.http();
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    let other = Approach::from(Ipv4Addr::new(127, 0, 0, 2));
    let mut held: Vec<Raw> = (0..2).map(|_| Raw::approach(&http, &other)).collect();
    for raw in &mut held {
        assert_eq!(raw.send(&ping).answer().expect("an answer").status, 401);
    }
    assert!(Raw::approach(&http, &other).send(&ping).answer().is_none(), "the third is turned away");
    let refused = |reason| metric(&scene.gateway.metrics(), "portcullis_connections_refused_total", reason);
    assert_eq!((refused("address"), refused("limit")), (1.0, 0.0));
    assert_eq!(Raw::connect(&http).send(&ping).answer().expect("another address is served").status, 401);
    held.pop().expect("there are two").drop_dead();
    within(SOON, || Raw::approach(&http, &other).send(&ping).answer().filter(|answer| answer.status == 401));
}

#[test]
fn one_address_has_a_share_of_the_handshakes() {
    let scene = Scene::with(|builder| builder.set("limits.handshakes_per_address", 2));
    let http = scene.gateway.http();
    let plain = Http::new(&format!("http://{}", scene.gateway.authority()), None);
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    let other = Approach::from(Ipv4Addr::new(127, 0, 0, 2));
    let open = || metric(&scene.gateway.metrics(), "portcullis_connections", "");
    let before = open();
    let held: Vec<Raw> = (0..2).map(|_| Raw::approach(&plain, &other)).collect();
    within(SOON, || (open() >= before + 2.0).then_some(()));
    assert!(Raw::approach(&http, &other).send(&ping).answer().is_none(), "the third is turned away");
    let refused = metric(&scene.gateway.metrics(), "portcullis_connections_refused_total", "handshakes");
    assert!(refused >= 1.0);
    assert_eq!(Raw::connect(&http).send(&ping).answer().expect("another address is served").status, 401);
    drop(held);
    within(SOON, || Raw::approach(&http, &other).send(&ping).answer().filter(|answer| answer.status == 401));
}

/// What is shed with a body on its way leaves nothing open at the upstream.
#[test]
fn an_upload_that_is_shed_is_not_begun() {
    let scene = Scene::with(|builder| builder.set("limits.requests_under_way", 1));
    let location = scene.acme("crowded").open_upload();
    let Open(sender, patching) = open_upload(&scene);
    under_way(&scene.gateway, 1.0);
    let blob = Blob::random(100_000);
    let put = scene.acme("crowded").at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone());
    put.send().refused(503, "UNAVAILABLE");
    drop(sender);
    patching.join().expect("no panic").expect("an answer").expect(202);
    // It was not touched.
    let put = scene.acme("crowded").at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone());
    put.send().expect(201);
}
