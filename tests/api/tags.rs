//! P4: one tag is deleted and its siblings stay, over a registry that can only delete by digest.

mod cut_off;
mod nodes;
mod throwaways;

use http::Method;
use portcullis_tests::faults::{Answer, Faults, Seen};
use portcullis_tests::gate::Gate;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Credentials;
use portcullis_tests::image::{IMAGE, INDEX, Manifest};
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{House, Scene, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn bare(registry: &Registry, name: &str) -> Repository {
    Repository::new(&registry.http(), name, &Credentials::None)
}

fn is_throwaway_put(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.header("content-type") == INDEX
}

fn is_delete_by_digest(seen: &Seen) -> bool {
    seen.method == "DELETE" && seen.path().contains("/manifests/sha256:")
}

/// A registry, and before it a gate that deletions by digest wait at.
struct Gated {
    registry: Registry,
    upstream: Faults,
    gate: Arc<Gate>,
}

impl Gated {
    fn start() -> Gated {
        let registry = Registry::start();
        let gate = Arc::new(Gate::default());
        let hold = gate.clone();
        let upstream = Faults::before(&registry.url(), move |seen| {
            if is_delete_by_digest(seen) {
                hold.pass();
            }
            None
        });
        Gated { registry, upstream, gate }
    }
}

/// Waits until the gateway has so many requests that are not answered yet.
#[track_caller]
fn wait_until_in_flight(gateway: &Gateway, requests: usize) {
    let (management, wanted) = (gateway.management(), format!("portcullis_requests_in_flight {requests}\n"));
    within(Duration::from_secs(30), || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains(&wanted).then_some(())
    });
}

#[test]
fn one_tag_goes_and_its_siblings_stay() {
    let scene = Scene::shared();
    let (repository, image, other) = (scene.acme("siblings"), Manifest::image(2, 100), Manifest::image(1, 100));
    for tag in ["1.0", "1.0.1", "latest"] {
        repository.push(tag, &image);
    }
    repository.push("2.0", &other);
    let refused = bare(&scene.registry, "acme/siblings").delete("1.0.1");
    assert!(!(200..300).contains(&refused.status), "the bare registry deletes no tag\n{refused}");

    repository.delete("1.0.1").expect(202);
    repository.manifest("1.0.1").refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(repository.tags(), ["1.0", "2.0", "latest"]);
    for tag in ["1.0", "latest", image.digest()] {
        repository.pull(tag, &image);
    }
    repository.pull("2.0", &other);
    let upstream = bare(&scene.registry, "acme/siblings");
    assert_eq!(upstream.tags(), repository.tags(), "nothing else is left upstream either");
    assert_eq!(upstream.manifest("1.0.1").status, 404);
}

#[test]
fn the_last_tag_goes_and_the_image_stays_under_its_digest() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("last-tag"), Manifest::image(1, 100));
    repository.push("only", &image);
    repository.delete("only").expect(202);
    repository.manifest("only").refused(404, "MANIFEST_UNKNOWN");
    assert!(repository.tags().is_empty());
    repository.pull(image.digest(), &image);
    repository.push("only", &image);
    repository.pull("only", &image);
}

#[test]
fn a_tag_that_is_not_there_is_404_and_leaves_nothing_behind() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("unknown-tag"), Manifest::image(1, 100));
    repository.delete("none").refused(404, "MANIFEST_UNKNOWN");
    repository.push("1.0", &image);
    repository.delete("none").refused(404, "MANIFEST_UNKNOWN");
    repository.delete("1.0").expect(202);
    repository.delete("1.0").refused(404, "MANIFEST_UNKNOWN");
    assert!(!scene.registry.log().contains("PUT /v2/acme/unknown-tag/manifests/none"));
}

#[test]
fn who_may_push_may_not_delete_a_tag() {
    let scene = Scene::shared();
    let image = Manifest::image(1, 100);
    scene.acme("pushers").push("1.0", &image);
    let pusher = scene.gateway.repository("acme/pushers", &scene.acme.push.credentials());
    let refused = pusher.delete("1.0").refused(401, "UNAUTHORIZED");
    assert!(refused.header("www-authenticate").contains("repository:acme/pushers:delete"), "{refused}");
    scene.globex("pushers");
    let stranger = scene.gateway.repository("acme/pushers", &scene.globex.admin.credentials());
    stranger.delete("1.0").refused(401, "UNAUTHORIZED");
    pusher.pull("1.0", &image);
}

#[test]
fn pulls_during_many_deletions_see_the_image_or_nothing() {
    let scene = Scene::shared();
    let (repository, image) = (scene.acme("busy"), Manifest::image(1, 100));
    repository.push("keep", &image);
    let over = AtomicBool::new(false);
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for method in [Method::GET, Method::HEAD] {
                        let answer = repository.request(method, "manifests/victim").send();
                        match answer.status {
                            200 => assert_eq!(answer.header("docker-content-digest"), image.digest(), "{answer}"),
                            // 502: the registry itself stumbles now and then over a tag that is being rewritten.
                            404 | 502 => {}
                            _ => panic!("{answer}"),
                        }
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut rounds = 0;
        while rounds < 15 || seen.load(Ordering::Relaxed) < 150 {
            repository.put_manifest("victim", &image).expect(201);
            repository.delete("victim").expect(202);
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    repository.pull("keep", &image);
}

#[test]
fn an_upstream_that_deletes_tags_itself_is_left_to_it() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "DELETE" => Answer::status(202),
        "GET" if seen.path().contains("/manifests/") => Answer::status(200).header("content-type", IMAGE).body("{}"),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    house.acme("app").delete("1.0").expect(202);
    let seen = upstream.seen();
    assert!(seen.iter().any(|seen| seen.method == "DELETE" && seen.target == "/v2/acme/app/manifests/1.0"), "{seen:?}");
    assert!(!seen.iter().any(|seen| seen.method == "PUT"), "{seen:?}");
}

#[test]
fn a_deletion_by_digest_takes_every_tag_along() {
    let scene = Scene::shared();
    let (repository, image, other) = (scene.acme("by-digest"), Manifest::image(1, 100), Manifest::image(1, 100));
    for tag in ["1.0", "latest"] {
        repository.push(tag, &image);
    }
    repository.push("2.0", &other);
    repository.delete(image.digest()).expect(202);
    for reference in ["1.0", "latest", image.digest()] {
        repository.manifest(reference).refused(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(repository.tags(), ["2.0"]);
    repository.pull("2.0", &other);
    repository.delete(image.digest()).refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_push_of_a_tag_from_before_the_gateway_waits_while_its_manifest_is_deleted() {
    let Gated { registry, upstream, gate } = Gated::start();
    let (old, new) = (Manifest::image(1, 100), Manifest::image(1, 100));
    bare(&registry, "acme/app").push("1.0", &old);
    let house = House::open(Gateway::before(&upstream.url()));
    let repository = house.acme("app");
    repository.push(new.digest(), &new);
    let deleting = {
        let (repository, old) = (repository.clone(), old.digest().to_owned());
        std::thread::spawn(move || repository.delete(&old))
    };
    upstream.wait_for(is_delete_by_digest);
    let pushing = {
        let (repository, new) = (repository.clone(), new.clone());
        std::thread::spawn(move || repository.put_manifest("1.0", &new))
    };
    wait_until_in_flight(&house.gateway, 2);
    // Pushes that came later and need not wait are done: one that does not wait would be as well.
    for later in ["2.0", "3.0", "4.0"] {
        repository.put_manifest(later, &new).expect(201);
    }
    let overtook = upstream.seen().iter().any(|seen| seen.method == "PUT" && seen.path().ends_with("/1.0"));
    assert!(!overtook, "the push overtook the deletion");
    gate.open();
    deleting.join().expect("no panic").expect(202);
    pushing.join().expect("no panic").expect(201);
    repository.pull("1.0", &new);
    repository.manifest(old.digest()).refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_manifest_is_deleted_where_the_upstream_lists_no_tags() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "DELETE" => Answer::status(202),
        _ if seen.path().ends_with("/tags/list") => Answer::status(404),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    house.acme("app").delete(Manifest::image(1, 100).digest()).expect(202);
}
