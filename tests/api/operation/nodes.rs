//! Two gateways on one PostgreSQL are one gateway.

use http::Method;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::{Repository, with_digest};
use portcullis_tests::scene::{EFFECT, House, within};
use std::sync::Arc;
use std::time::Duration;

fn two_nodes(database: &Arc<Postgres>) -> (Registry, House, Gateway) {
    let registry = Registry::start();
    let one = House::open(Gateway::before(&registry.url()).postgres(database));
    let mut other = one.gateway.second_node();
    other.serve();
    (registry, one, other)
}

#[test]
fn what_one_node_issues_and_takes_the_other_knows() {
    let (_registry, one, other) = two_nodes(&Postgres::shared());
    let image = Manifest::image(1, 100);
    let token = one.gateway.token(&one.acme.push.credentials(), &["repository:acme/shared:pull,push"]);
    one.gateway.repository("acme/shared", &token).push("1.0", &image);
    let there = other.repository("acme/shared", &token);
    there.pull("1.0", &image);
    assert_eq!(there.tags(), ["1.0"]);
    let keys = |gateway: &Gateway| gateway.http().get("/.well-known/jwks.json").send().expect(200).body;
    assert_eq!(keys(&one.gateway), keys(&other));

    // An upload goes on at the node that it did not begin at.
    let (here, blob) = (one.gateway.repository("acme/shared", &token), Blob::random(2000));
    let location = here.open_upload();
    let location =
        there.at(Method::PATCH, &location).body(blob.bytes[..1000].to_vec()).send().expect(202).header("location");
    let put = here.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes[1000..].to_vec());
    put.send().expect(201);
    assert_eq!(there.blob(&blob.digest).expect(200).body, blob.bytes);
    there.at(Method::GET, &location).send().refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_takes_one_request_at_a_time_from_all_nodes_together() {
    let (_registry, one, other) = two_nodes(&Postgres::shared());
    let here = one.acme("one-by-one");
    let there = other.repository("acme/one-by-one", &one.acme.admin.credentials());
    let location = here.open_upload();
    let (sender, body) = portcullis_tests::http::pieces();
    sender.send(vec![1; 1000]);
    let first = here.at(Method::PATCH, &location).stream(body);
    let first = std::thread::spawn(move || first.send());
    within(EFFECT, || (one.gateway.account("acme").reserved > 0).then_some(()));
    let held = one.gateway.account("acme").reserved;
    there.at(Method::PATCH, &location).body("more").send().refused(400, "BLOB_UPLOAD_INVALID");
    there.at(Method::DELETE, &location).send().refused(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(one.gateway.account("acme").reserved, held, "the others have changed nothing");
    drop(sender);
    // From then on it is any node's.
    let location = first.join().expect("no panic").expect(202).header("location");
    let location = there.at(Method::PATCH, &location).body("more").send().expect(202).header("location");
    let location = here.at(Method::PATCH, &location).body("and more").send().expect(202).header("location");
    there.at(Method::DELETE, &location).send().expect(204);
    assert_eq!(one.gateway.account("acme").reserved, 0);
}

#[test]
fn what_one_node_is_told_holds_on_both_within_two_seconds() {
    let (_registry, one, other) = two_nodes(&Postgres::shared());
    let image = Manifest::image(1, 100);
    one.acme("revoked").push("1.0", &image);
    let token = one.gateway.token(&one.acme.pull.credentials(), &["repository:acme/revoked:pull"]);
    let nodes: [Repository; 2] =
        [one.gateway.repository("acme/revoked", &token), other.repository("acme/revoked", &token)];
    nodes.iter().for_each(|node| node.pull("1.0", &image));
    one.gateway.cli(&["robot", "disable", "acme", "puller"]);
    for node in &nodes {
        within(EFFECT, || (node.manifest("1.0").status == 401).then_some(()));
    }
    one.acme("revoked").pull("1.0", &image);
}

#[test]
fn without_its_database_a_node_denies_and_says_so_and_comes_back() {
    let database = Arc::new(Postgres::start());
    let registry = Registry::start();
    let house = House::open(Gateway::before(&registry.url()).postgres(&database).set("store.stale_max_s", 5));
    let (repository, image) = (house.acme("stale"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    // Somebody is in the middle of an upload.
    let location = repository.open_upload();
    let (sender, body) = portcullis_tests::http::pieces();
    sender.send(vec![1; 1000]);
    let patch = repository.at(Method::PATCH, &location).stream(body);
    let patching = std::thread::spawn(move || patch.send());
    within(EFFECT, || (house.gateway.account("acme").reserved > 0).then_some(()));
    database.kill();
    // There was room ahead for some of it; whether there is for the rest nobody can tell.
    for _ in 0..48 {
        sender.send(vec![1; 64 * 1024]);
    }
    patching.join().expect("no panic").refused(503, "UNAVAILABLE");
    let management = house.gateway.management();
    let red = within(Duration::from_secs(30), || {
        let answer = management.get("/readyz").send();
        (answer.status == 503).then(|| answer.json())
    });
    assert_eq!((&red["store"], &red["upstream"]), (&false.into(), &true.into()));
    let refused = repository.manifest("1.0").refused(503, "UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty(), "{refused}");
    repository.put_manifest("2.0", &image).refused(503, "UNAVAILABLE");
    database.revive();
    within(Duration::from_secs(30), || (management.get("/readyz").send().status == 200).then_some(()));
    repository.pull("1.0", &image);
    // The registry takes no more of an upload that was broken off; its room comes back with it.
    repository.at(Method::GET, &location).send().refused(404, "BLOB_UPLOAD_INVALID");
    repository.at(Method::DELETE, &location).send().expect(204);
    within(EFFECT, || (house.gateway.account("acme").reserved == 0).then_some(()));
}
