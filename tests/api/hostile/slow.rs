//! Bodies that come, or are taken, a byte at a time.

use http::Method;
use portcullis_tests::gateway::Builder;
use portcullis_tests::http::{Credentials, Response, pieces};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{Scene, within};
use std::time::{Duration, Instant};

/// Who has not been given up by now never will be.
const GIVEN_UP: Duration = Duration::from_secs(25);

/// A gateway that bears three seconds of silence, however they are spread.
fn impatient() -> Scene {
    Scene::with(|builder: Builder| builder.set("upstream.idle_timeout_s", 3).set("upstream.unread_timeout_s", 3))
}

/// Sends a byte again and again, and never lets it be silent for long.
fn drips(scene: &Scene, http2: bool) -> Response {
    let repository = scene.acme("drips");
    let blob = Blob::random(100_000);
    let (sender, body) = pieces();
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
    let put = if http2 { put.http2() } else { put }.limit(GIVEN_UP);
    let putting = std::thread::spawn(move || put.attempt());
    let begun = Instant::now();
    while !putting.is_finished() {
        assert!(begun.elapsed() < GIVEN_UP * 2, "it is waited for");
        sender.send("a");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(sender);
    putting.join().expect("no panic").expect("an answer before the body's end")
}

#[test]
fn an_upload_that_drips_is_cut_off_though_it_is_never_silent() {
    let scene = impatient();
    for http2 in [false, true] {
        let answer = drips(&scene, http2).refused(408, "SIZE_INVALID");
        assert!(answer.to_string().contains("too slowly"), "{answer}");
    }
}

/// Twice the time that silence may last, and always faster than the slowest pace.
#[test]
fn an_upload_that_is_slow_but_fast_enough_goes_through() {
    let scene = impatient();
    let repository = scene.acme("slow");
    let blob = Blob::random(30_000);
    let (sender, body) = pieces();
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
    let putting = std::thread::spawn(move || put.attempt());
    for piece in blob.bytes.chunks(1000) {
        sender.send(piece.to_vec());
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(sender);
    putting.join().expect("no panic").expect("an answer").expect(201);
    assert!(repository.blob(&blob.digest).expect(200).body == blob.bytes);
}

#[test]
fn a_body_in_pieces_of_one_byte_is_refused_and_one_of_small_pieces_is_not() {
    let scene = Scene::shared();
    let repository = scene.acme("crumbs");
    for (size, status) in [(1, 400), (64, 201)] {
        let blob = Blob::random(200_000);
        let (sender, body) = pieces();
        for piece in blob.bytes.chunks(size) {
            sender.send(piece.to_vec());
        }
        drop(sender);
        let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
        let answer = put.send().expect(status);
        assert!(status == 201 || answer.to_string().contains("pieces of a few bytes"), "{answer}");
    }
}

/// A reader that takes a little now and then, so that its connection to the upstream is never unread for long.
#[test]
fn an_answer_that_is_read_a_little_at_a_time_is_cut_off() {
    let scene = Scene::with(|builder| {
        let often = builder.set("upstream.unread_timeout_s", 4).set("limits.body_min_bytes_per_s", 1_048_576);
        often.set("server.tls", "off")
    });
    let image = Manifest::image(1, 30_000_000);
    let repository = scene.acme("sipped");
    repository.push("1.0", &image);
    let who = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/sipped:pull"]);
    let Credentials::Bearer(token) = who else { panic!("a token") };
    let mut raw = Raw::connect(&scene.gateway.http());
    raw.send(format!(
        "GET /v2/acme/sipped/blobs/{} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
        image.blobs[1].digest,
        scene.gateway.authority()
    ));
    let broken = || scene.gateway.metrics().lines().any(|line| line == "portcullis_answers_broken_off_total 1");
    let begun = Instant::now();
    within(GIVEN_UP, || {
        // Some 100 kB a second: each pause is short, and all together it is a tenth of the pace.
        raw.sip(20_000);
        std::thread::sleep(Duration::from_millis(200));
        broken().then_some(())
    });
    assert!(begun.elapsed() > Duration::from_secs(3), "it had its time");
}
