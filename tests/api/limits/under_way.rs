//! Requests at once, of a project and of a robot.

use super::{limited, refused};
use http::Method;
use hyper::body::Incoming;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::frames::{GREETING, WHOLE, frame, head, kind};
use portcullis_tests::gate::Gate;
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::http::block_on;
use portcullis_tests::image::Blob;
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, House, within};
use std::sync::Arc;

/// An upstream whose large blob never ends; the small one comes whole.
fn slow(large: &Blob, small: &Blob) -> Faults {
    let (large, small) = (large.clone(), small.clone());
    Faults::scripted(move |seen| match seen.path() {
        "/v2/" => Answer::status(200),
        path if path.ends_with(&small.digest) => Answer::status(200).body(small.bytes.clone()),
        _ => Answer::status(200).body(large.bytes.clone()).stall_after(100_000),
    })
}

/// A pull that has begun, and does not end by itself.
#[track_caller]
fn begun(repository: &Repository, blob: &Blob, http2: bool) -> http::Response<Incoming> {
    let pull = repository.request(Method::GET, &format!("blobs/{}", blob.digest));
    let answer = block_on((if http2 { pull.http2() } else { pull }).open()).expect("the pull begins");
    assert_eq!(answer.status(), 200);
    answer
}

#[test]
fn a_project_and_a_robot_have_so_many_requests_at_once_and_each_place_is_free_again() {
    let (large, small) = (Blob::random(300_000), Blob::random(100));
    let upstream = slow(&large, &small);
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    let house = House::open(builder.set("limits.requests_under_way_per_project", 2));
    let puller = house.gateway.repository("acme/app", &house.acme.pull.credentials());
    let admin = house.acme("app");
    house.gateway.cli(&["limit", "set", "acme+puller", "--under-way", "1"]);

    let first = begun(&puller, &large, false);
    let answer = within(EFFECT, || Some(puller.blob(&small.digest)).filter(|answer| answer.status != 200));
    let answer = limited(answer, "requests-under-way-per-robot");
    assert!(answer.to_string().contains("robot acme+puller has 1 requests under way"), "{answer}");

    let second = begun(&admin, &large, true);
    let answer = limited(admin.blob(&small.digest), "requests-under-way-per-project");
    assert_eq!(answer.header("ratelimit-policy"), "\"requests-under-way-per-project\";q=2;qu=\"concurrent-requests\"");
    assert!(answer.to_string().contains("project acme has 2 requests under way"), "{answer}");
    assert!(refused(&house.gateway, "requests-under-way-per-project") >= 1.0);
    house.globex("app").blob(&small.digest).expect(200);

    // A client goes away: over HTTP/1.1, and over HTTP/2.
    drop(first);
    within(EFFECT, || (puller.blob(&small.digest).status == 200).then_some(()));
    let third = begun(&puller, &large, true);
    limited(admin.blob(&small.digest), "requests-under-way-per-project");
    drop(third);
    within(EFFECT, || (admin.blob(&small.digest).status == 200).then_some(()));
    guests_have_places_of_their_own(&house, &large, &small);
    // The upstream breaks off.
    let _fourth = begun(&puller, &large, false);
    limited(admin.blob(&small.digest), "requests-under-way-per-project");
    drop(upstream);
    within(EFFECT, || (admin.blob(&small.digest).status == 502).then_some(()));
    drop(second);
}

#[track_caller]
fn guests_have_places_of_their_own(house: &House, large: &Blob, small: &Blob) {
    house.gateway.cli(&["project", "create", "commons", "--adopt", "--public"]);
    let own = house.gateway.robot("commons", "owner", &["--role", "pull"]).credentials();
    let owner = house.gateway.repository("commons/app", &own);
    let guest = house.gateway.repository("commons/app", &house.globex.pull.credentials());
    // A third of what its robots have, and one at least.
    let _held = begun(&guest, large, true);
    limited(guest.blob(&small.digest), "guest-requests-under-way-per-project");
    owner.blob(&small.digest).expect(200);
}

#[test]
fn a_write_that_outlives_its_client_keeps_its_places_until_its_end() {
    let (small, gate) = (Blob::random(100), Arc::new(Gate::default()));
    let (bytes, hold) = (small.bytes.clone(), gate.clone());
    let upstream = Faults::scripted(move |seen| {
        if seen.method == "POST" {
            hold.pass();
            return Answer::status(202).header("location", "/v2/globex/app/blobs/uploads/one");
        }
        Answer::status(200).body(bytes.clone())
    });
    let house = House::open(Gateway::before(&upstream.url()).set("upstream.isolation", "repository"));
    house.gateway.cli(&["limit", "set", "globex", "--under-way", "1"]);

    let who = house.globex.admin.credentials().header().expect("a robot's");
    let headers = [("authorization", who.as_str()), ("content-length", "0")];
    let block = head("POST", house.gateway.authority(), "/v2/globex/app/blobs/uploads/", &headers);
    let mut client = Raw::connect_h2(&house.gateway.http());
    client.send(GREETING).send(frame(kind::HEADERS, WHOLE, 1, &block));
    upstream.wait_for(|seen| seen.method == "POST");
    client.drop_dead();
    // Until its end has been seen, its places are those of a request that has a client.
    within(EFFECT, || (metric(&house.gateway.metrics(), "portcullis_requests_in_flight", "") < 1.0).then_some(()));

    let globex = house.globex("app");
    let refused = within(EFFECT, || Some(globex.blob(&small.digest)).filter(|answer| answer.status != 200));
    limited(refused, "requests-under-way-per-project");
    house.acme("app").blob(&small.digest).expect(200);
    gate.open();
    within(EFFECT, || (globex.blob(&small.digest).status == 200).then_some(()));
}
