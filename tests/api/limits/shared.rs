//! Two gateways and one Redis: the limits are those of both together, with Redis killed and back.

use super::limited;
use portcullis_tests::gateway::{Builder, Gateway, metric};
use portcullis_tests::http::{Credentials, Http};
use portcullis_tests::image::Manifest;
use portcullis_tests::postgres::Postgres;
use portcullis_tests::redis::Redis;
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{EFFECT, House, within};
use std::time::Duration;

struct Nodes {
    _registry: Registry,
    one: House,
    other: Gateway,
}

impl Nodes {
    #[track_caller]
    fn start(redis: &Redis, configure: impl FnOnce(Builder) -> Builder) -> Nodes {
        let registry = Registry::start();
        let builder = Gateway::before(&registry.url()).postgres(&Postgres::shared());
        // A machine that is busy with tests is slow to answer.
        let builder = builder.set("limits.shared", redis.url()).set("limits.shared_timeout_ms", 2000);
        let one = House::open(configure(builder));
        let mut other = one.gateway.second_node();
        other.serve();
        let nodes = Nodes { _registry: registry, one, other };
        nodes.both_are(1.0);
        nodes
    }

    /// Waits until both say that their limits are shared, or that they are not.
    #[track_caller]
    fn both_are(&self, up: f64) {
        for gateway in [&self.one.gateway, &self.other] {
            within(Duration::from_secs(30), || {
                let is = metric(&gateway.metrics(), "portcullis_limits_shared_up", "");
                ((is - up).abs() < 0.1).then_some(())
            });
        }
    }

    fn repositories(&self, name: &str) -> [Repository; 2] {
        let who = self.one.acme.admin.credentials();
        [self.one.gateway.repository(name, &who), self.other.repository(name, &who)]
    }
}

/// Pulls at both in turn until one refuses; returns how many passed.
#[track_caller]
fn pull_until_refused(nodes: &[Repository; 2]) -> usize {
    for passed in 0..100 {
        let answer = nodes[passed % 2].manifest("1.0");
        if answer.status != 200 {
            limited(answer, "pulls-per-project");
            return passed;
        }
    }
    panic!("a hundred pulls passed");
}

#[test]
fn two_gateways_let_through_what_one_would() {
    let redis = Redis::start();
    let nodes = Nodes::start(&redis, |builder| {
        let builder = builder.set("limits.pulls_per_project", "10/d").set("limits.bytes_per_project", "1MiB/d");
        builder.set("limits.login_failures_per_account", "3/d")
    });
    let image = Manifest::image(1, 100);
    let both = nodes.repositories("acme/app");
    both[0].push("1.0", &image);
    assert_eq!(both[0].manifest("1.0").expect(200).header("ratelimit-remaining"), "9;w=86400");
    assert_eq!(both[1].manifest("1.0").expect(200).header("ratelimit-remaining"), "8;w=86400");
    assert_eq!(pull_until_refused(&both), 8);
    // Neither lets one more through, and the last refusal took nothing.
    both.iter().for_each(|node| drop(limited(node.manifest("1.0"), "pulls-per-project")));
    // Bytes that one has moved are the other's debt.
    let large = portcullis_tests::image::Blob::random(1_200_000);
    both[0].put_blob(&large).expect(201);
    let refused = within(EFFECT, || Some(both[1].blob(&large.digest)).filter(|answer| answer.status != 200));
    limited(refused, "bytes-per-project");
    let keys = redis.says("KEYS *");
    assert!(keys.contains(":pulls-per-project:") && keys.contains(":bytes-per-project:"), "{keys}");
    failed_logins_count_on_both(&nodes, &redis);
}

/// Three failures are free, the next three shut the door for 1, 2 and 4 seconds, whichever nodes see them.
#[track_caller]
fn failed_logins_count_on_both(nodes: &Nodes, redis: &Redis) {
    let doors = [nodes.one.gateway.http(), nodes.other.http()];
    let wrong = Credentials::Basic("acme+pusher".to_owned(), "pcr_wrong".to_owned());
    let login = |door: &Http, who: &Credentials| door.get("/token?service=portcullis").with(who).send();
    let mut failed: usize = 0;
    let shut = within(Duration::from_secs(60), || {
        let answer = login(&doors[failed % 2], &wrong);
        failed += usize::from(answer.status == 401);
        let wait: u64 = answer.header("retry-after").parse().unwrap_or_default();
        (wait >= 4).then_some(answer)
    });
    limited(shut, "login-failures-per-account");
    // Each by itself would have let six pass.
    assert!((6..=8).contains(&failed), "{failed} failures before the door was shut for four seconds");
    for door in &doors {
        limited(login(door, &wrong), "login-failures-per-account");
        login(door, &nodes.one.acme.push.credentials()).expect(200);
    }
    let keys = redis.says("KEYS *");
    assert!(keys.contains(":login-failures-per-account:") && !keys.contains("pusher"), "{keys}");
}

#[test]
fn requests_at_once_on_both_pass_exactly_as_many_as_one_would_let() {
    let redis = Redis::start();
    let nodes = Nodes::start(&redis, |builder| builder.set("limits.pulls_per_project", "40/d"));
    let both = nodes.repositories("acme/app");
    both[0].push("1.0", &Manifest::image(1, 100));
    let passed: usize = std::thread::scope(|scope| {
        let pulling: Vec<_> = (0..8)
            .map(|number| {
                let node = &both[number % 2];
                scope.spawn(move || (0..10).filter(|_| node.manifest("1.0").status == 200).count())
            })
            .collect();
        pulling.into_iter().map(|pulling| pulling.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 40);
}

#[test]
fn without_its_redis_each_node_has_its_share_and_it_comes_back_by_itself() {
    let mut redis = Redis::start();
    let nodes = Nodes::start(&redis, |builder| builder.set("limits.pulls_per_project", "10/d"));
    let both = nodes.repositories("acme/app");
    both[0].push("1.0", &Manifest::image(1, 100));
    both[0].manifest("1.0").expect(200);
    // Both know of each other.
    within(EFFECT, || redis.says("KEYS *").contains("nodes").then_some(()));
    let alive = within(EFFECT, || {
        let keys = redis.says("KEYS *:nodes");
        let key = keys.lines().find(|line| line.ends_with(":nodes"))?.trim().to_owned();
        redis.says(&format!("ZCARD {key}")).contains(":2").then_some(key)
    });
    assert!(alive.starts_with("portcullis:{"), "{alive}");
    // A beat later each has been told so.
    for gateway in [&nodes.one.gateway, &nodes.other] {
        within(EFFECT, || (metric(&gateway.metrics(), "portcullis_limits_nodes", "") > 1.5).then_some(()));
    }
    redis.kill();
    // The first request after that is decided without it.
    both.iter().for_each(|node| drop(node.manifest("1.0").expect(200)));
    nodes.both_are(0.0);
    for node in &both {
        let passed = (0..20).filter(|_| node.manifest("1.0").status == 200).count();
        assert_eq!(passed, 4, "five are its share, and one is used");
        let refused = limited(node.manifest("1.0"), "pulls-per-project");
        assert!(refused.json().to_string().contains("project acme has had its 5 pulls per d"), "{refused}");
    }
    for gateway in [&nodes.one.gateway, &nodes.other] {
        let log = gateway.log();
        assert_eq!(log.matches("the store of shared limits does not answer").count(), 1, "{log}");
    }
    redis.revive();
    nodes.both_are(1.0);
    assert_eq!(pull_until_refused(&both), 10, "it knows nothing of before, and counts for both again");
}

#[test]
fn nodes_that_start_without_their_redis_have_their_shares_as_well() {
    let mut redis = Redis::start();
    let mut nodes = Nodes::start(&redis, |builder| builder.set("limits.pulls_per_project", "10/d"));
    nodes.repositories("acme/app")[0].push("1.0", &Manifest::image(1, 100));
    redis.kill();
    for gateway in [&mut nodes.one.gateway, &mut nodes.other] {
        gateway.stop();
    }
    for gateway in [&mut nodes.one.gateway, &mut nodes.other] {
        gateway.serve();
        assert!((metric(&gateway.metrics(), "portcullis_limits_nodes", "") - 2.0).abs() < 0.1);
    }
    // Neither has ever spoken with it, and what both give out is what one would.
    for node in &nodes.repositories("acme/app") {
        let passed = (0..20).filter(|_| node.manifest("1.0").status == 200).count();
        assert_eq!(passed, 5);
        let refused = limited(node.manifest("1.0"), "pulls-per-project");
        assert!(refused.json().to_string().contains("project acme has had its 5 pulls per d"), "{refused}");
    }
    redis.revive();
    nodes.both_are(1.0);
    assert_eq!(pull_until_refused(&nodes.repositories("acme/app")), 10);
}

#[test]
fn a_redis_that_is_not_there_stops_nobody_and_doctor_says_so() {
    let mut redis = Redis::with_password("hunter2");
    let registry = Registry::start();
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("redis-password");
    std::fs::write(&secret, "hunter2\n").expect("it is writable");
    let builder = Gateway::before(&registry.url()).set("limits.pulls_per_project", "10/d");
    let builder = builder.set("limits.shared", redis.url()).set("limits.shared_timeout_ms", 2000);
    let mut gateway = builder.set("limits.shared_password_file", secret.to_string_lossy().as_ref()).start();
    let up = |gateway: &Gateway, up: f64| {
        within(EFFECT, || {
            ((metric(&gateway.metrics(), "portcullis_limits_shared_up", "") - up).abs() < 0.1).then_some(())
        });
    };
    up(&gateway, 1.0);
    let finding = |gateway: &Gateway| {
        let output = gateway.command(&["doctor", "--json"]).run();
        assert!(!output.to_string().contains("hunter2"), "{output}");
        let findings = output.json()["findings"].as_array().cloned().expect("a list");
        findings.into_iter().find(|finding| finding["about"] == "limits.shared").expect("it is looked at")
    };
    assert_eq!(finding(&gateway)["level"], "ok");
    redis.kill();
    let acme = gateway.persona("acme");
    let repository = gateway.repository("acme/app", &acme.admin.credentials());
    repository.push("1.0", &Manifest::image(1, 100));
    repository.manifest("1.0").expect(200);
    up(&gateway, 0.0);
    assert_eq!(finding(&gateway)["level"], "error");
    // It may also start without.
    gateway.stop();
    gateway.serve();
    gateway.repository("acme/app", &acme.admin.credentials()).manifest("1.0").expect(200);
    redis.revive();
    up(&gateway, 1.0);
    assert!(!gateway.log().contains("hunter2"));
}

#[test]
fn over_tls_only_who_has_the_right_certificate_is_believed() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).set("limits.pulls_per_project", "10/d").start();
    // The gateway's own certificate is one for localhost, and its CA signs it.
    let tls = gateway.data_dir().join("tls");
    let redis = Redis::with_tls(&tls.join("server.crt"), &tls.join("server-key.pem"));
    gateway.set("limits.shared", redis.url());
    gateway.set("limits.shared_timeout_ms", 2000);
    gateway.set("limits.shared_ca_file", tls.join("ca.crt").to_string_lossy().as_ref());
    let found = |gateway: &Gateway| {
        let all = gateway.command(&["doctor", "--json"]).run().json()["findings"].as_array().cloned().expect("a list");
        all.into_iter().find(|finding| finding["about"] == "limits.shared").expect("it is looked at")
    };
    assert_eq!(found(&gateway)["level"], "ok", "{}", found(&gateway));
    // Another CA than the one that signed it.
    let other = Gateway::before(&registry.url()).start();
    gateway.set("limits.shared_ca_file", other.ca().to_string_lossy().as_ref());
    assert_eq!(found(&gateway)["level"], "error", "{}", found(&gateway));
}

#[test]
fn doctor_warns_of_postgresql_without_and_of_a_redis_elsewhere_without_tls() {
    let registry = Registry::start();
    let mut gateway = Gateway::before(&registry.url()).postgres(&Postgres::shared()).stopped();
    let findings = |gateway: &Gateway| {
        let output = gateway.command(&["doctor", "--json"]).limit(Duration::from_secs(60)).run();
        let all = output.json()["findings"].as_array().cloned().expect("a list");
        all.into_iter().filter(|finding| finding["about"] == "limits.shared").collect::<Vec<_>>()
    };
    let alone = findings(&gateway);
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0]["level"], "warning");
    assert!(alone[0]["found"].as_str().is_some_and(|found| found.contains("by itself")), "{alone:?}");
    // An address for documentation: nobody answers there.
    gateway.set("limits.shared", "redis://192.0.2.1:6379");
    let elsewhere = findings(&gateway);
    assert_eq!((&elsewhere[0]["level"], &elsewhere[1]["level"]), (&"warning".into(), &"error".into()), "{elsewhere:?}");
    assert!(elsewhere[0]["found"].as_str().is_some_and(|found| found.contains("TLS")), "{elsewhere:?}");
    gateway.set("limits.shared", "rediss://192.0.2.1:6379");
    assert_eq!(findings(&gateway).len(), 1, "over TLS there is nothing to warn of");
}
