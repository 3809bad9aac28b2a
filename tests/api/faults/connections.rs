//! Which connections to the upstream are used again, and which never.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gate::Gate;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::pieces;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, within};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const LOCATION: &str = "/v2/acme/app/blobs/uploads/1";
/// Longer than anybody has to wait on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn one_thread(upstream: &Faults) -> House {
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    House::open(builder.set("server.worker_threads", 1).set("upstream.first_byte_timeout_s", 5))
}

#[test]
fn a_connection_whose_exchange_was_complete_is_used_again() {
    let upstream = Faults::scripted(|seen| match seen.path() {
        "/v2/" => Answer::status(200),
        _ => Answer::status(200).header("content-type", IMAGE).body("{}"),
    });
    let house = one_thread(&upstream);
    for _ in 0..5 {
        house.acme("app").manifest("1.0").expect(200);
    }
    let pulls: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.path() != "/v2/").collect();
    assert_eq!(pulls.len(), 5);
    assert!(pulls.iter().all(|seen| seen.connection == pulls[0].connection), "{pulls:?}");
}

#[test]
fn a_kept_connection_that_has_ended_costs_no_request() {
    let upstream = Faults::scripted(|seen| match seen.path() {
        "/v2/" => Answer::status(200),
        // It says nothing of closing, and closes.
        _ => Answer::status(200).header("content-type", IMAGE).body("{}").cut_after(2),
    });
    let house = one_thread(&upstream);
    for _ in 0..20 {
        house.acme("app").manifest("1.0").expect(200);
    }
}

#[test]
fn a_connection_with_an_unsent_body_is_not_used_again() {
    let upstream = Faults::hasty(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("location", LOCATION),
        "PUT" | "PATCH" => Answer::status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#),
        _ => Answer::status(200).header("content-type", IMAGE).body("{}"),
    });
    let house = one_thread(&upstream);
    let repository = house.acme("app");
    // More than two sockets' buffers hold, so that some of it is never sent.
    let blob = Blob::random(16 << 20);
    let location = repository.open_upload();
    let put = repository.at(Method::PUT, &with_digest(&location, &blob.digest)).body(blob.bytes.clone()).send();
    put.refused(400, "BLOB_UPLOAD_INVALID");
    repository.manifest("1.0").expect(200);
    let seen = upstream.seen();
    let put = seen.iter().rposition(|seen| seen.method == "PUT").expect("it was asked");
    assert!(seen[put + 1..].iter().all(|later| later.connection != seen[put].connection), "{seen:?}");
}

#[test]
fn a_connection_whose_upload_was_broken_off_is_not_used_again() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("location", LOCATION),
        "GET" if seen.path() != "/v2/" => Answer::status(200).header("content-type", IMAGE).body("{}"),
        _ => Answer::status(200),
    });
    let house = one_thread(&upstream);
    let repository = house.acme("app");
    let location = repository.open_upload();
    let (sender, body) = pieces();
    sender.send(vec![1; 10_000]);
    let patch = repository.at(Method::PATCH, &location).stream(body);
    let patching = std::thread::spawn(move || patch.attempt());
    upstream.wait_for_head(|seen| seen.method == "PATCH");
    sender.break_off();
    patching.join().expect("no panic").expect_err("the client broke off itself");
    let broken = upstream.wait_for(|seen| seen.method == "PATCH");
    assert!(!broken.whole);
    repository.manifest("1.0").expect(200);
    let seen = upstream.seen();
    assert!(
        seen.iter().filter(|seen| seen.method == "GET").all(|seen| seen.connection != broken.connection),
        "{seen:?}"
    );
}

/// Two threads, and so many places for connections upstream as `places` says; whoever waits for one waits for a minute.
fn two_threads(upstream: &Faults, places: i64) -> House {
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    let builder = builder.set("server.worker_threads", 2).set("upstream.connect_timeout_s", 60);
    House::open(builder.set("upstream.max_connections", places))
}

#[test]
fn more_requests_than_connections_on_two_threads_are_all_answered() {
    let gate = Arc::new(Gate::default());
    let hold = gate.clone();
    let upstream = Faults::scripted(move |seen| {
        if seen.path() == "/v2/" {
            return Answer::status(200);
        }
        hold.pass();
        Answer::status(200).header("content-type", IMAGE).body("{}")
    });
    const PLACES: usize = 3;
    let house = two_threads(&upstream, PLACES as i64);
    let pulls: Vec<_> = (0..40)
        .map(|number| {
            let repository = house.acme("app");
            std::thread::spawn(move || {
                let pull = repository.request(Method::GET, "manifests/1.0").limit(PATIENCE);
                if number % 2 == 0 { pull.http2() } else { pull }.send().expect(200)
            })
        })
        .collect();
    // All places are taken, and all others wait for one.
    let management = house.gateway.management();
    within(PATIENCE, || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_requests_in_flight 40").then_some(())
    });
    assert!(upstream.connections() <= PLACES, "{}", upstream.connections());
    gate.open();
    for pull in pulls {
        pull.join().expect("every pull is answered");
    }
    assert!(upstream.connections() <= PLACES, "{}", upstream.connections());
}

#[test]
fn a_thread_gets_the_place_of_a_connection_that_another_thread_keeps() {
    let upstream = Faults::scripted(|seen| match seen.path() {
        "/v2/" => Answer::status(200),
        _ => Answer::status(200).header("content-type", IMAGE).body("{}"),
    });
    let house = two_threads(&upstream, 1);
    let http = house.gateway.http();
    let pull = format!(
        "GET /v2/acme/app/manifests/1.0 HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\n\r\n",
        house.gateway.authority(),
        house.acme.pull.credentials().header().expect("a robot's"),
    );
    // Two connections that stand at the same time are on two threads.
    let mut threads = [Raw::connect(&http), Raw::connect(&http)];
    for round in 0..10 {
        for (number, thread) in threads.iter_mut().enumerate() {
            let answer = thread.send(&pull).answer();
            let answer = answer.unwrap_or_else(|| panic!("thread {number} starved in round {round}"));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}

/// The gateway's own look at the upstream takes a place now and then, and so ends a kept connection.
#[test]
fn who_waits_on_a_connections_own_thread_gets_that_connection() {
    const PULLS: usize = 40;
    let gate = Arc::new(Gate::default());
    let hold = gate.clone();
    let upstream = Faults::scripted(move |seen| {
        if seen.path() == "/v2/" {
            return Answer::status(200);
        }
        hold.pass();
        Answer::status(200).header("content-type", IMAGE).body("{}")
    });
    let builder = Gateway::before(&upstream.url()).set("upstream.isolation", "repository");
    let builder = builder.set("server.worker_threads", 1).set("upstream.max_connections", 1);
    let house = House::open(builder.set("upstream.connect_timeout_s", 60));
    let pulls: Vec<_> = (0..PULLS)
        .map(|_| {
            let pull = house.acme("app").request(Method::GET, "manifests/1.0").limit(PATIENCE);
            std::thread::spawn(move || pull.send().expect(200))
        })
        .collect();
    let management = house.gateway.management();
    within(PATIENCE, || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_requests_in_flight 40").then_some(())
    });
    gate.open();
    for pull in pulls {
        pull.join().expect("every pull is answered");
    }
    let seen = upstream.seen().into_iter().filter(|seen| seen.path() != "/v2/");
    let connections: HashSet<_> = seen.map(|seen| seen.connection).collect();
    assert!(connections.len() < PULLS / 2, "{} connections for {PULLS} pulls", connections.len());
}

#[test]
fn a_large_manifest_is_pushed_and_pulled_over_one_connection() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "PUT" => Answer::status(201),
        _ => Answer::status(200),
    });
    let house = one_thread(&upstream);
    let image = Manifest::image(1, 10);
    for tag in ["1.0", "2.0"] {
        house.acme("app").put_manifest(tag, &image).expect(201);
    }
    let puts: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts[0].connection, puts[1].connection);
}
