//! Downloads that break off, and bytes that are not what was asked for.

use http::Method;
use http_body_util::BodyExt;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::block_on;
use portcullis_tests::image::{Blob, IMAGE, INDEX, Manifest, random};
use portcullis_tests::process::resident_kib;
use portcullis_tests::scene::{House, within};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A house whose upstream answers every pull as the test says.
fn pulled(
    configure: impl FnOnce(portcullis_tests::gateway::Builder) -> portcullis_tests::gateway::Builder,
) -> (Arc<Mutex<Answer>>, Faults, House) {
    let answer = Arc::new(Mutex::new(Answer::status(200)));
    let told = answer.clone();
    let upstream = Faults::scripted(move |seen| {
        if seen.path() == "/v2/" { Answer::status(200) } else { told.lock().expect("nobody panics here").clone() }
    });
    let house = House::open(configure(Gateway::before(&upstream.url()).set("upstream.isolation", "repository")));
    (answer, upstream, house)
}

/// Pulls over both protocols; each has to end abnormally, or with an error.
#[track_caller]
fn assert_never_ends_well(what: &str, house: &House, path: &str) {
    for http2 in [false, true] {
        let pull = house.acme("app").request(Method::GET, path);
        match (if http2 { pull.http2() } else { pull }).attempt() {
            Err(_) => {}
            Ok(answer) => {
                assert_eq!(answer.status, 502, "{what} ended well over HTTP/{}\n{answer}", if http2 { 2 } else { 1 })
            }
        }
    }
}

#[test]
fn a_download_that_is_cut_is_never_a_short_200() {
    let (answer, _upstream, house) = pulled(|builder| builder);
    let blob = Blob::random(300_000);
    let path = format!("blobs/{}", blob.digest);
    let whole = || Answer::status(200).body(blob.bytes.clone());
    for framed in [whole(), whole().chunked(), whole().to_close()] {
        for at in [0, 1, 100_000, 299_999] {
            *answer.lock().expect("nobody panics here") = framed.clone().cut_after(at);
            assert_never_ends_well(&format!("cut after {at}"), &house, &path);
        }
        *answer.lock().expect("nobody panics here") = framed;
        assert_eq!(house.acme("app").blob(&blob.digest).expect(200).body, blob.bytes);
    }
    // A part is not hashed: what is short of its length is noticed all the same.
    let part = Answer::status(206).header("content-range", "bytes 0-99/300000").body(blob.bytes[..100].to_vec());
    *answer.lock().expect("nobody panics here") = part.cut_after(50);
    let pull = house.acme("app").request(Method::GET, &path).header("range", "bytes=0-99");
    if let Ok(answer) = pull.attempt() {
        assert_eq!(answer.status, 502, "a short part ended well\n{answer}");
    }
}

#[test]
fn a_download_that_falls_silent_is_given_up() {
    let (answer, _upstream, house) = pulled(|builder| builder.set("upstream.idle_timeout_s", 1));
    let blob = Blob::random(300_000);
    let begun = Instant::now();
    *answer.lock().expect("nobody panics here") = Answer::status(200).body(blob.bytes.clone()).stall_after(100_000);
    assert_never_ends_well("silence", &house, &format!("blobs/{}", blob.digest));
    let manifest = Answer::status(200).header("content-type", IMAGE).body(blob.bytes.clone()).stall_after(100);
    *answer.lock().expect("nobody panics here") = manifest;
    assert_never_ends_well("silence", &house, "manifests/1.0");
    assert_never_ends_well("silence", &house, "tags/list");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_does_not_read_does_not_fill_the_gateways_memory() {
    const MIB: usize = 1024 * 1024;
    let (answer, _upstream, house) = pulled(|builder| builder.set("server.worker_threads", 1));
    let blob = Blob::new("application/octet-stream", vec![7; 96 * MIB]);
    *answer.lock().expect("nobody panics here") = Answer::status(200).body(blob.bytes.clone());
    for http2 in [false, true] {
        let before = resident_kib(house.gateway.id());
        let pull = house.acme("app").request(Method::GET, &format!("blobs/{}", blob.digest));
        let unread = block_on((if http2 { pull.http2() } else { pull }).open()).expect("the download begins");
        // The one thread that serves these has served the download before each of them, if there was anything to do.
        for _ in 0..100 {
            house.gateway.http().get("/v2/").send().expect(401);
        }
        let held = resident_kib(house.gateway.id()).saturating_sub(before) / 1024;
        assert!(held < 32, "{held} MiB wait for a client that does not read");
        let read = block_on(unread.into_body().collect()).expect("the download goes on").to_bytes();
        assert!(read == blob.bytes, "the download comes whole");
    }
}

#[test]
fn bytes_that_are_not_the_digests_never_end_well() {
    let (answer, _upstream, house) = pulled(|builder| builder);
    for size in [1, 1000, 300_000] {
        let blob = Blob::random(size);
        let mut last_differs = blob.bytes.clone();
        last_differs[size - 1] ^= 1;
        let longer = [blob.bytes.as_slice(), b"x"].concat();
        for wrong in [random(size), last_differs, longer, blob.bytes[..size - 1].to_vec(), Vec::new()] {
            let told =
                || Answer::status(200).header("content-type", IMAGE).header("docker-content-digest", &blob.digest);
            for framed in [
                told().body(wrong.clone()),
                told().body(wrong.clone()).chunked(),
                told().body(wrong.clone()).to_close(),
            ] {
                *answer.lock().expect("nobody panics here") = framed;
                assert_never_ends_well("wrong bytes", &house, &format!("blobs/{}", blob.digest));
                assert_never_ends_well("wrong bytes", &house, &format!("manifests/{}", blob.digest));
                assert_never_ends_well("bytes other than the digest that goes with them", &house, "manifests/1.0");
            }
        }
    }
    // An index of a throw-away's size takes another way out.
    let odd = [br#"{"schemaVersion":2,"mediaType":""#.as_slice(), INDEX.as_bytes(), br#"""#].concat();
    let odd = [odd.as_slice(), &vec![b' '; 194 - odd.len() - 1], b"}"].concat();
    let asked = Blob::random(10).digest;
    *answer.lock().expect("nobody panics here") = Answer::status(200).header("content-type", INDEX).body(odd);
    assert_never_ends_well("an index of 194 bytes", &house, &format!("manifests/{asked}"));
    let metrics = house.gateway.management().get("/metrics").send().expect(200);
    let broken = String::from_utf8_lossy(&metrics.body).into_owned();
    let counted = broken.lines().find_map(|line| line.strip_prefix("portcullis_answers_broken_off_total "));
    assert!(counted.is_some_and(|count| count != "0"), "they are counted\n{broken}");
}

#[test]
fn an_answer_about_another_digest_is_no_answer() {
    let (answer, _upstream, house) = pulled(|builder| builder);
    let (asked, other) = (Manifest::image(1, 10), Manifest::image(1, 10));
    let told = Answer::status(200).header("content-type", IMAGE).header("docker-content-digest", other.digest());
    *answer.lock().expect("nobody panics here") = told.body(other.blob.bytes.clone());
    house.acme("app").manifest(asked.digest()).refused(502, "UNAVAILABLE");
    let head = house.acme("app").request(Method::HEAD, &format!("manifests/{}", asked.digest())).send();
    head.expect(502);
    house.acme("app").manifest("1.0").expect(200);
}

#[test]
fn a_part_that_nobody_asked_for_is_no_answer() {
    let (answer, _upstream, house) = pulled(|builder| builder);
    let blob = Blob::random(1000);
    let part = Answer::status(206).header("content-range", "bytes 0-99/1000").body(random(100));
    *answer.lock().expect("nobody panics here") = part;
    house.acme("app").blob(&blob.digest).refused(502, "UNAVAILABLE");
    house.acme("app").manifest("1.0").refused(502, "UNAVAILABLE");
    *answer.lock().expect("nobody panics here") = Answer::status(304);
    house.acme("app").blob(&blob.digest).refused(502, "UNAVAILABLE");
}

#[test]
fn a_client_that_goes_away_ends_the_upstreams_transfer() {
    let (answer, upstream, house) = pulled(|builder| builder);
    let blob = Blob::random(64 << 20);
    *answer.lock().expect("nobody panics here") = Answer::status(200).body(blob.bytes.clone());
    for http2 in [false, true] {
        let pull = house.acme("app").request(Method::GET, &format!("blobs/{}", blob.digest));
        let before = upstream.seen().len();
        let open = block_on((if http2 { pull.http2() } else { pull }).open()).expect("a head");
        assert_eq!(open.status().as_u16(), 200);
        let connection = upstream.seen().get(before).map(|seen| seen.connection).expect("it was asked");
        drop(open);
        // What is left of it would take 64 MiB that nobody reads.
        within(Duration::from_secs(20), || (upstream.connections() <= 1).then_some(()));
        // The half-read connection is not used again.
        *answer.lock().expect("nobody panics here") = Answer::status(200).header("content-type", IMAGE).body("{}");
        house.acme("app").manifest("1.0").expect(200);
        assert!(upstream.seen().last().is_some_and(|seen| seen.connection != connection));
        *answer.lock().expect("nobody panics here") = Answer::status(200).body(blob.bytes.clone());
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_keep_its_connection_to_the_upstream() {
    let one_connection = |builder: portcullis_tests::gateway::Builder| {
        let builder = builder.set("upstream.max_connections", 1).set("upstream.unread_timeout_s", 1);
        builder.set("upstream.connect_timeout_s", 60).set("server.worker_threads", 1)
    };
    let (answer, _upstream, house) = pulled(one_connection);
    let blob = Blob::random(64 << 20);
    for http2 in [false, true] {
        *answer.lock().expect("nobody panics here") = Answer::status(200).body(blob.bytes.clone());
        let pull = house.acme("app").request(Method::GET, &format!("blobs/{}", blob.digest));
        let unread = block_on((if http2 { pull.http2() } else { pull }).open()).expect("a head");
        *answer.lock().expect("nobody panics here") = Answer::status(200).header("content-type", IMAGE).body("{}");
        house.acme("app").request(Method::GET, "manifests/1.0").limit(Duration::from_secs(60)).send().expect(200);
        block_on(unread.into_body().collect()).expect_err("what was cut off ended well");
    }
}
