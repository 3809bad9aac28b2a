//! Which connections to the upstream are used again, and which never.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::pieces;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::House;

const LOCATION: &str = "/v2/acme/app/blobs/uploads/1";

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

#[test]
fn more_requests_than_connections_wait_their_turn_and_too_many_are_told_of() {
    let upstream = Faults::scripted(|seen| match seen.path() {
        "/v2/" => Answer::status(200),
        _ => Answer::status(200).header("content-type", IMAGE).body("{}").after(std::time::Duration::from_millis(100)),
    });
    let builder =
        Gateway::before(&upstream.url()).set("upstream.max_connections", 2).set("upstream.connect_timeout_s", 5);
    let house = House::open(builder);
    let pulls: Vec<_> = (0..12)
        .map(|_| {
            let repository = house.acme("app");
            std::thread::spawn(move || repository.manifest("1.0"))
        })
        .collect();
    for pull in pulls {
        pull.join().expect("no panic").expect(200);
    }
    // One is the probe's own.
    assert!(upstream.connections() <= 3, "{}", upstream.connections());
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
