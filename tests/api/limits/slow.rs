//! A Redis that answers too late: it is done without, like one that is away, and used again once it is quick.

use super::limited;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gate::Gate;
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::lag::Lag;
use portcullis_tests::redis::Redis;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{EFFECT, House, within};
use std::sync::Arc;
use std::time::Duration;

/// Waits until the gateway uses the shared store, or does without it.
#[track_caller]
fn until_shared(gateway: &Gateway, up: f64) {
    within(Duration::from_secs(30), || {
        let is = metric(&gateway.metrics(), "portcullis_limits_shared_up", "");
        ((is - up).abs() < 0.1).then_some(())
    });
}

#[test]
fn a_redis_that_answers_too_late_is_done_without_until_it_is_quick_again() {
    let (redis, registry) = (Redis::start(), Registry::start());
    let lag = Lag::before(&redis);
    let builder = Gateway::before(&registry.url()).set("limits.pulls_per_project", "10/d");
    let gateway = builder.set("limits.shared", lag.url()).set("limits.shared_timeout_ms", 1000).start();
    let until = |up| until_shared(&gateway, up);
    let complaints = || gateway.log().matches("the store of shared limits does not answer").count();
    until(1.0);
    let acme = gateway.persona("acme");
    let repository = gateway.repository("acme/app", &acme.admin.credentials());
    repository.push("1.0", &Manifest::image(1, 100));
    let left = || repository.manifest("1.0").expect(200).header("ratelimit-remaining");
    assert_eq!(left(), "9;w=86400");
    lag.hold();
    // No answer comes before these requests have theirs: they are decided here, which has let nothing through yet.
    assert_eq!([left(), left(), left()], ["9;w=86400", "8;w=86400", "7;w=86400"]);
    until(0.0);
    assert_eq!(complaints(), 1, "{}", gateway.log());
    lag.release();
    until(1.0);
    // It has not heard of those, but for the first perhaps: what came too late was taken there all the same.
    let now = left();
    assert!(["8;w=86400", "7;w=86400"].contains(&&*now), "{now}");
    let passed = (0..20).filter(|_| repository.manifest("1.0").status == 200).count();
    assert_eq!(passed.to_string(), now.trim_end_matches(";w=86400"), "it counts here again");
    limited(repository.manifest("1.0"), "pulls-per-project");
    assert_eq!(complaints(), 1, "{}", gateway.log());
}

#[test]
fn bytes_that_a_late_redis_is_not_heard_to_take_are_charged_here() {
    let (large, small, gate) = (Blob::random(300_000), Blob::random(1), Arc::new(Gate::default()));
    let (held, hold) = (large.clone(), gate.clone());
    let rest = small.bytes.clone();
    let upstream = Faults::scripted(move |seen| {
        if seen.path().ends_with(&held.digest) {
            hold.pass();
            return Answer::status(200).body(held.bytes.clone());
        }
        Answer::status(200).body(rest.clone())
    });
    let redis = Redis::start();
    let lag = Lag::before(&redis);
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    let builder = builder.set("limits.bytes_per_project", "100KiB/d");
    let house = House::open(builder.set("limits.shared", lag.url()).set("limits.shared_timeout_ms", 1000));
    until_shared(&house.gateway, 1.0);

    let repository = house.acme("app");
    let download = std::thread::spawn({
        let (repository, digest) = (repository.clone(), large.digest.clone());
        move || repository.blob(&digest).expect(200)
    });
    // It has been let in, and nothing of it has flowed.
    upstream.wait_for(|seen| seen.path().ends_with(&large.digest));
    lag.hold();
    gate.open();
    assert!(download.join().expect("it comes whole").body == large.bytes);
    // A byte each: what these take themselves comes to no debt, however many they are.
    let refused = within(EFFECT, || Some(repository.blob(&small.digest)).filter(|answer| answer.status != 200));
    limited(refused, "bytes-per-project");
    house.globex("app").blob(&small.digest).expect(200);
}
