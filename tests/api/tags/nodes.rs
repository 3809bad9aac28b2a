//! Pushes and deletions of one tag from two nodes: one after the other.

use super::{Gated, bare, is_delete_by_digest, wait_until_in_flight};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Manifest, sha256};
use portcullis_tests::postgres::Postgres;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::House;

#[test]
fn a_push_of_the_tag_from_another_node_waits_for_its_deletion() {
    let Gated { registry, upstream, gate } = Gated::start();
    let one = House::open(Gateway::before(&upstream.url()).postgres(&Postgres::shared()));
    let mut other = one.gateway.second_node();
    other.serve();
    let (image, next) = (Manifest::image(1, 100), Manifest::image(1, 100));
    let here = one.acme("app");
    let there = other.repository("acme/app", &one.acme.admin.credentials());
    here.push("1.0", &image);
    here.push("keep", &image);
    there.push(next.digest(), &next);
    let deleting = std::thread::spawn(move || here.delete("1.0"));
    upstream.wait_for(is_delete_by_digest);
    let pushing = {
        let (there, next) = (there.clone(), next.clone());
        std::thread::spawn(move || there.put_manifest("1.0", &next))
    };
    let is_push = |seen: &portcullis_tests::faults::Seen| {
        seen.method == "PUT" && seen.path().ends_with("/1.0") && sha256(&seen.body) == next.digest()
    };
    // Pushes that came later and need not wait are done: one that does not wait would be as well.
    wait_until_in_flight(&other, 1);
    for later in ["2.0", "3.0", "4.0"] {
        there.put_manifest(later, &next).expect(201);
    }
    assert!(!upstream.seen().iter().any(is_push), "the push overtook the deletion");
    there.pull("keep", &image);
    gate.open();
    deleting.join().expect("no panic").expect(202);
    pushing.join().expect("no panic").expect(201);
    there.pull("1.0", &next);
    assert_eq!(bare(&registry, "acme/app").manifest("1.0").header("docker-content-digest"), next.digest());
}

#[test]
fn a_push_and_a_deletion_from_two_nodes_end_in_one_of_the_two_orders() {
    let registry = Registry::start();
    let one = House::open(Gateway::before(&registry.url()).postgres(&Postgres::shared()));
    let mut other = one.gateway.second_node();
    other.serve();
    let (old, new) = (Manifest::image(1, 100), Manifest::image(1, 100));
    let here = one.acme("app");
    let there = other.repository("acme/app", &one.acme.admin.credentials());
    here.push("keep", &old);
    there.push(new.digest(), &new);
    for _ in 0..12 {
        here.put_manifest("1.0", &old).expect(201);
        std::thread::scope(|scope| {
            let deleting = scope.spawn(|| here.delete("1.0"));
            let pushing = scope.spawn(|| there.put_manifest("1.0", &new));
            deleting.join().expect("no panic").expect(202);
            pushing.join().expect("no panic").expect(201);
        });
        let upstream = bare(&registry, "acme/app").manifest("1.0");
        for answer in [here.manifest("1.0"), there.manifest("1.0"), upstream] {
            match answer.status {
                200 => assert_eq!(answer.header("docker-content-digest"), new.digest(), "{answer}"),
                404 => {}
                _ => panic!("{answer}"),
            }
        }
        assert_eq!(here.tags(), there.tags());
        here.pull("keep", &old);
    }
}
