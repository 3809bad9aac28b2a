//! A deletion that is cut off between its two steps, by the gateway's end or the upstream's failure.

use super::{bare, is_delete_by_digest, is_throwaway_put};
use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Manifest, sha256};
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{House, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// As long as a dead gateway's lock, and the next sweep after it, may take.
const SWEPT: Duration = Duration::from_secs(60);

#[test]
fn a_gateway_killed_between_the_two_steps_shows_nothing_and_finishes_later() {
    let registry = Registry::start();
    let hangs = Arc::new(AtomicBool::new(true));
    let hang = hangs.clone();
    let upstream = Faults::before(&registry.url(), move |seen| {
        (is_delete_by_digest(seen) && hang.load(Ordering::SeqCst)).then(Answer::silence)
    });
    let mut house = House::open(Gateway::before(&upstream.url()));
    let image = Manifest::image(1, 100);
    for tag in ["1.0", "2.0", "keep"] {
        house.acme("app").push(tag, &image);
    }
    let deletions: Vec<_> = ["1.0", "2.0"]
        .into_iter()
        .map(|tag| {
            let repository = house.acme("app");
            std::thread::spawn(move || repository.request(Method::DELETE, &format!("manifests/{tag}")).attempt())
        })
        .collect();
    let throwaways = within(Duration::from_secs(30), || {
        let seen = upstream.seen();
        let puts: Vec<_> = seen.iter().filter(|seen| is_throwaway_put(seen)).map(|seen| sha256(&seen.body)).collect();
        (seen.iter().filter(|seen| is_delete_by_digest(seen)).count() == 2).then_some(puts)
    });
    house.gateway.kill();
    for deletion in deletions {
        assert!(deletion.join().expect("no panic").is_err(), "nobody answered");
    }
    house.gateway.serve();
    let repository = house.acme("app");
    for method in [Method::GET, Method::HEAD] {
        repository.request(method, "manifests/1.0").send().expect(404);
    }
    for throwaway in &throwaways {
        repository.manifest(throwaway).refused(404, "MANIFEST_UNKNOWN");
    }
    repository.pull("keep", &image);

    hangs.store(false, Ordering::SeqCst);
    // Somebody pushes one of the two again: the dead gateway's lock holds him up for a while, no longer.
    let next = Manifest::image(1, 100);
    repository.push(next.digest(), &next);
    within(SWEPT, || {
        let put = repository.put_manifest("2.0", &next);
        assert!(put.status == 201 || put.status == 503, "{put}");
        (put.status == 201).then_some(())
    });
    let straight = bare(&registry, "acme/app");
    within(SWEPT, || throwaways.iter().all(|throwaway| straight.manifest(throwaway).status == 404).then_some(()));
    within(SWEPT, || (straight.manifest("1.0").status == 404).then_some(()));
    within(SWEPT, || (repository.tags() == ["2.0", "keep"]).then_some(()));
    repository.pull("2.0", &next);
    repository.pull("keep", &image);
}

#[test]
fn an_upstream_that_fails_at_the_second_step_shows_nothing_either() {
    let registry = Registry::start();
    let fails = Arc::new(AtomicBool::new(true));
    let fail = fails.clone();
    let upstream = Faults::before(&registry.url(), move |seen| {
        (is_delete_by_digest(seen) && fail.load(Ordering::SeqCst)).then(|| Answer::status(500))
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let (repository, image) = (house.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.push("keep", &image);
    repository.delete("1.0").refused(502, "UNAVAILABLE");
    repository.manifest("1.0").refused(404, "MANIFEST_UNKNOWN");
    fails.store(false, Ordering::SeqCst);
    let straight = bare(&registry, "acme/app");
    within(SWEPT, || (straight.manifest("1.0").status == 404).then_some(()));
    repository.pull("keep", &image);
}

#[test]
fn an_upstream_that_fails_at_the_first_step_leaves_the_tag_as_it_was() {
    let registry = Registry::start();
    let upstream = Faults::before(&registry.url(), |seen| is_throwaway_put(seen).then(|| Answer::status(500)));
    let house = House::open(Gateway::before(&upstream.url()));
    let (repository, image) = (house.acme("app"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    repository.delete("1.0").refused(502, "UNAVAILABLE");
    repository.pull("1.0", &image);
}
