//! An upstream that is down, slow, or answers what no registry should.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Request;
use portcullis_tests::image::{Blob, IMAGE, Manifest};
use portcullis_tests::repository::Repository;
use portcullis_tests::scene::{House, Scene, within};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A house whose upstream answers everything below acme with what the test puts here.
fn scripted() -> (Arc<Mutex<Answer>>, Faults, House) {
    let answer = Arc::new(Mutex::new(Answer::status(200)));
    let told = answer.clone();
    let upstream = Faults::scripted(move |seen| {
        if seen.path() == "/v2/" { Answer::status(200) } else { told.lock().expect("nobody panics here").clone() }
    });
    let house = House::open(
        Gateway::before(&upstream.url()).set("upstream.isolation", "repository").set("upstream.idle_timeout_s", 2),
    );
    (answer, upstream, house)
}

/// One request of every kind that goes upstream without a body of its own.
fn every_kind(repository: &Repository) -> Vec<Request> {
    let digest = Blob::random(10).digest;
    vec![
        repository.request(Method::GET, "manifests/1.0"),
        repository.request(Method::HEAD, "manifests/1.0"),
        repository.request(Method::GET, &format!("blobs/{digest}")),
        repository.request(Method::HEAD, &format!("blobs/{digest}")),
        repository.request(Method::GET, "tags/list"),
        repository.request(Method::GET, &format!("referrers/{digest}")),
        repository.request(Method::POST, "blobs/uploads/"),
        repository.request(Method::POST, &format!("blobs/uploads/?digest={digest}")),
        repository.request(Method::DELETE, "manifests/1.0"),
        repository.request(Method::DELETE, &format!("manifests/{digest}")),
        repository.request(Method::DELETE, &format!("blobs/{digest}")),
    ]
}

#[test]
fn an_upstream_that_is_down_is_told_of_and_readiness_follows() {
    let mut scene = Scene::with(|builder| builder.set("upstream.isolation", "repository"));
    let image = Manifest::image(1, 100);
    let repository = scene.acme("down");
    repository.push("1.0", &image);
    let management = scene.gateway.management();
    let readiness = |expected| {
        within(SOON, || {
            let answer = management.get("/readyz").send();
            (answer.status == expected).then(|| answer.json())
        })
    };
    readiness(200);
    scene.registry.kill();
    for request in every_kind(&repository) {
        let answer = request.send().expect(502);
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{answer}");
        if !answer.asked.starts_with("HEAD") {
            assert_eq!(answer.error_code(), "UNAVAILABLE");
        }
        assert!(!answer.to_string().contains("127.0.0.1"), "{answer}");
    }
    repository.put_manifest("2.0", &image).refused(502, "UNAVAILABLE");
    scene.gateway.http().get("/v2/").with(&scene.acme.pull.credentials()).send().expect(200);
    let red = readiness(503);
    assert_eq!((&red["upstream"], &red["store"], &red["ready"]), (&false.into(), &true.into(), &false.into()));
    management.get("/healthz").send().expect(200);
    scene.registry.revive();
    readiness(200);
    repository.pull("1.0", &image);
}

#[test]
fn an_upstream_that_says_nothing_is_given_up_and_a_slow_one_is_not() {
    let (answer, _upstream, house) = scripted();
    let mut house = house;
    house.gateway.stop();
    house.gateway.set("upstream.first_byte_timeout_s", 4);
    house.gateway.serve();
    let image = Manifest::image(1, 100);
    let digest = image.digest().to_owned();
    let late = Answer::status(200).header("content-type", IMAGE).header("docker-content-digest", &digest);
    *answer.lock().expect("nobody panics here") = late.body(image.blob.bytes.clone()).after(Duration::from_millis(500));
    house.acme("app").pull("1.0", &Manifest { blobs: Vec::new(), ..image });
    *answer.lock().expect("nobody panics here") = Answer::silence();
    let begun = Instant::now();
    house.acme("app").manifest("1.0").refused(502, "UNAVAILABLE");
    house.acme("app").put_blob(&Blob::random(100)).refused(502, "UNAVAILABLE");
    assert!(begun.elapsed() < SOON + SOON, "it waited for {:?}", begun.elapsed());
}

#[test]
fn an_upstream_that_hangs_up_is_told_of() {
    let (answer, _upstream, house) = scripted();
    *answer.lock().expect("nobody panics here") = Answer::hang_up();
    for request in every_kind(&house.acme("app")) {
        request.send().expect(502);
    }
}

#[test]
fn the_upstreams_own_failures_are_502_503_and_429() {
    let (answer, _upstream, house) = scripted();
    for (theirs, ours, code, retry) in [
        (500, 502, "UNAVAILABLE", "5"),
        (502, 502, "UNAVAILABLE", "5"),
        (503, 503, "UNAVAILABLE", "7"),
        (504, 502, "UNAVAILABLE", "5"),
        (507, 502, "UNAVAILABLE", "5"),
        (429, 429, "TOOMANYREQUESTS", "7"),
    ] {
        let failing = Answer::status(theirs).header("x-secret", "upstream.internal").body("at upstream.internal");
        let failing = if retry == "7" { failing.header("retry-after", "7") } else { failing };
        *answer.lock().expect("nobody panics here") = failing;
        for request in every_kind(&house.acme("app")) {
            let answer = request.send().expect(ours);
            assert_eq!(answer.header("retry-after"), retry, "{answer}");
            assert!(!answer.to_string().contains("upstream.internal"), "{answer}");
            if !answer.asked.starts_with("HEAD") {
                assert_eq!(answer.error_code(), code);
            }
        }
    }
}

#[test]
fn a_status_that_makes_no_sense_is_502() {
    let (answer, _upstream, house) = scripted();
    for status in [
        101, 201, 204, 205, 206, 226, 300, 301, 302, 304, 307, 399, 402, 407, 408, 418, 421, 426, 431, 451, 499, 599,
        700, 999,
    ] {
        let odd =
            Answer::status(status).header("location", "http://upstream.internal/").header("upgrade", "x").body("odd");
        *answer.lock().expect("nobody panics here") = odd;
        for path in ["manifests/1.0".to_owned(), format!("blobs/{}", Blob::random(9).digest), "tags/list".to_owned()] {
            let answer = house.acme("app").request(Method::GET, &path).send();
            assert_eq!(answer.status, 502, "the upstream's {status}\n{answer}");
            assert_eq!(answer.error_code(), "UNAVAILABLE");
            assert_eq!((answer.header("location"), answer.header("upgrade")), (String::new(), String::new()));
        }
    }
}

#[test]
fn lists_that_are_no_lists_are_502() {
    let (answer, _upstream, house) = scripted();
    for body in ["", "x", "7", "{\"tags\":7}", "{\"tags\":[7]}", "{\"manifests\":7}"] {
        *answer.lock().expect("nobody panics here") = Answer::status(200).body(body);
        if !body.contains("manifests") {
            house.acme("app").request(Method::GET, "tags/list").send().refused(502, "UNAVAILABLE");
        }
        if !body.contains("tags") {
            let referrers = format!("referrers/{}", Blob::random(9).digest);
            house.acme("app").request(Method::GET, &referrers).send().refused(502, "UNAVAILABLE");
        }
    }
    let odd = r#"{"name":"upstream.internal","tags":["1.0","../x","a b","2.0\u0000","-"]}"#;
    *answer.lock().expect("nobody panics here") = Answer::status(200).body(odd);
    assert_eq!(house.acme("app").tags(), ["1.0"], "what is no tag is not shown");
}

#[test]
fn an_endless_list_is_not_read_to_its_end() {
    let (answer, _upstream, house) = scripted();
    let endless = format!("{{\"tags\":[{}\"z\"]}}", "\"a\",".repeat(3_000_000));
    *answer.lock().expect("nobody panics here") = Answer::status(200).body(endless);
    house.acme("app").request(Method::GET, "tags/list").send().refused(502, "UNAVAILABLE");
}

#[test]
fn odd_headers_split_no_answer() {
    let (answer, _upstream, house) = scripted();
    let image = Manifest::image(1, 100);
    for (name, value) in [
        ("etag", "x\r\n set-cookie: folded=1"),
        ("etag", "x\rset-cookie: cr=1"),
        ("etag", "x\nset-cookie: lf=1"),
        ("etag", "x\0y"),
        ("warning", "299 - \"\u{7}\u{1b}[31m\""),
        ("docker-upload-uuid", "a%0d%0aset-cookie:%20escaped=1"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "gzip"),
        ("docker-content-digest", "sha256:0\r\nset-cookie: x"),
        ("x-long", &"a".repeat(1_000_000)),
    ] {
        let odd = Answer::status(200).header("content-type", IMAGE).header(name, value).body(image.blob.bytes.clone());
        *answer.lock().expect("nobody panics here") = odd;
        for http2 in [false, true] {
            let pull = house.acme("app").request(Method::GET, &format!("manifests/{}", image.digest()));
            match (if http2 { pull.http2() } else { pull }).attempt() {
                Ok(answer) => {
                    assert_eq!(answer.header("set-cookie"), "", "{name}: {value:?}\n{answer}");
                    assert!(answer.status == 502 || answer.body == image.blob.bytes, "{name}\n{answer}");
                    let is_clean =
                        |value: &http::HeaderValue| value.as_bytes().iter().all(|byte| *byte >= b' ' || *byte == b'\t');
                    assert!(answer.headers.values().all(is_clean), "{answer}");
                }
                // An answer that has begun cannot become another one: it ends abnormally.
                Err(_) => assert!(["content-length", "transfer-encoding"].contains(&name), "{name}: {value:?}"),
            }
        }
    }
}

#[test]
fn a_manifest_that_the_upstream_stores_under_another_digest_was_not_pushed() {
    let (answer, _upstream, house) = scripted();
    let image = Manifest::image(1, 100);
    let other = Blob::random(10).digest;
    *answer.lock().expect("nobody panics here") = Answer::status(201).header("docker-content-digest", &other);
    house.acme("app").put_manifest("1.0", &image).refused(502, "UNAVAILABLE");
    *answer.lock().expect("nobody panics here") = Answer::status(404);
    assert!(house.acme("app").referrers(image.digest()).is_empty());
}

#[test]
fn a_blob_that_the_upstream_took_and_does_not_have_was_not_pushed() {
    let upstream = Faults::scripted(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("location", "/v2/acme/app/blobs/uploads/1"),
        "PUT" => Answer::status(201),
        "HEAD" => Answer::status(404),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()));
    let blob = Blob::random(100);
    house.acme("app").put_blob(&blob).refused(502, "UNAVAILABLE");
    house.acme("app").blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn a_gateway_that_was_killed_goes_on_where_it_was() {
    let mut scene = Scene::open();
    let (repository, image) = (scene.acme("survivor"), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let token = scene.gateway.token(&scene.acme.pull.credentials(), &["repository:acme/survivor:pull"]);
    for _ in 0..3 {
        scene.gateway.kill();
        scene.gateway.serve();
        scene.acme("survivor").pull("1.0", &image);
        scene.gateway.repository("acme/survivor", &token).pull("1.0", &image);
    }
}
