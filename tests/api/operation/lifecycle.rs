//! Reload without dropping a connection, and a drain that lets what is under way finish.

use http::Method;
use portcullis_tests::faults::Faults;
use portcullis_tests::gate::Gate;
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::{Http, pieces};
use portcullis_tests::image::{Blob, Manifest};
use portcullis_tests::raw::Raw;
use portcullis_tests::repository::with_digest;
use portcullis_tests::scene::{House, Scene, within};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use toml_edit::Array;

const SOON: Duration = Duration::from_secs(20);

fn ping(host: &str) -> String {
    format!("GET /v2/ HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

#[test]
fn a_reload_takes_a_new_configuration_and_drops_no_connection() {
    let mut scene = Scene::open();
    let (http, ours) = (scene.gateway.http(), scene.gateway.authority().to_owned());
    let mut kept = Raw::connect(&http);
    assert_eq!(kept.send(ping(&ours)).answer().expect("an answer").status, 401);
    assert_eq!(kept.send(ping("also.example")).answer().expect("an answer").status, 421);
    let (sender, body) = pieces();
    let (repository, blob) = (scene.acme("reload"), Blob::random(2000));
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
    let putting = std::thread::spawn(move || put.attempt());
    sender.send(blob.bytes[..1000].to_vec());

    scene.gateway.set("server.hosts", ["also.example"].into_iter().collect::<Array>());
    scene.gateway.reload();
    within(SOON, || {
        let answer = kept.send(ping("also.example")).answer().expect("the kept connection stands");
        (answer.status == 401).then_some(())
    });
    sender.send(blob.bytes[1000..].to_vec());
    drop(sender);
    putting.join().expect("no panic").expect("the upload goes on").expect(201);
    // Taken back again, it is gone again.
    scene.gateway.set("server.hosts", Array::new());
    scene.gateway.reload();
    within(SOON, || {
        let answer = kept.send(ping("also.example")).answer().expect("the kept connection stands");
        (answer.status == 421).then_some(())
    });
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let mut scene = Scene::open();
    let whole = std::fs::read_to_string(scene.gateway.config()).expect("the test's own file");
    for broken in ["", "nonsense", &whole.replace("[server]", "[server]\nhosts = [\"also.example\"]\nno_such_key = 1")]
    {
        let refused = scene.gateway.log().matches("reload refused").count();
        std::fs::write(scene.gateway.config(), broken).expect("the test's own file");
        scene.gateway.reload();
        within(SOON, || (scene.gateway.log().matches("reload refused").count() > refused).then_some(()));
        scene.gateway.http().get("/v2/").header("host", "also.example").send().expect(421);
        scene.gateway.http().get("/v2/").with(&scene.acme.pull.credentials()).send().expect(200);
    }
    std::fs::remove_file(scene.gateway.config()).expect("the test's own file");
    scene.gateway.reload();
    scene.gateway.http().get("/v2/").with(&scene.acme.pull.credentials()).send().expect(200);
}

#[test]
fn a_reload_takes_a_new_certificate_for_new_connections() {
    let mut scene = Scene::open();
    let (http, ours) = (scene.gateway.http(), scene.gateway.authority().to_owned());
    let port = ours.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    let by_address = Http::new(&format!("https://127.0.0.1:{port}"), Some(&scene.gateway.ca()));
    by_address.get("/v2/").attempt().expect_err("the certificate is for another name");
    let mut kept = Raw::connect(&http);
    assert_eq!(kept.send(ping(&ours)).answer().expect("an answer").status, 401);
    scene.gateway.set("server.hosts", ["127.0.0.1"].into_iter().collect::<Array>());
    scene.gateway.reload();
    within(SOON, || by_address.get("/v2/").attempt().ok()).expect(401);
    assert_eq!(kept.send(ping(&ours)).answer().expect("the kept connection stands").status, 401);
    http.get("/v2/").send().expect(401);
}

#[test]
fn limits_change_with_a_reload() {
    let mut scene = Scene::open();
    let long = |scene: &Scene| scene.gateway.http().get("/v2/").header("x-long", "a".repeat(10_000)).send().status;
    assert_eq!(long(&scene), 401);
    scene.gateway.set("limits.header_bytes", 8192);
    scene.gateway.reload();
    within(SOON, || (long(&scene) == 431).then_some(()));
}

#[test]
fn a_drain_lets_an_upload_finish_and_takes_nothing_new() {
    let mut scene = Scene::open();
    let (repository, blob, image) = (scene.acme("drain"), Blob::random(300_000), Manifest::image(1, 100));
    repository.push("1.0", &image);
    let (http, ours) = (scene.gateway.http(), scene.gateway.authority().to_owned());
    let mut idle = Raw::connect(&http);
    assert_eq!(idle.send(ping(&ours)).answer().expect("an answer").status, 401);
    let uploads: Vec<_> = [false, true]
        .into_iter()
        .map(|http2| {
            let (sender, body) = pieces();
            let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
            let put = if http2 { put.http2() } else { put };
            sender.send(blob.bytes[..100_000].to_vec());
            (sender, std::thread::spawn(move || put.attempt()))
        })
        .collect();
    let management = scene.gateway.management();
    within(SOON, || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_requests_in_flight 2").then_some(())
    });
    scene.gateway.drain();
    within(SOON, || TcpStream::connect(ours.replace("localhost", "127.0.0.1")).is_err().then_some(()));
    let ready = management.get("/readyz").send().expect(503).json();
    assert_eq!(ready["draining"], true);
    let (_, _) = idle.rest();
    for (sender, put) in uploads {
        sender.send(blob.bytes[100_000..].to_vec());
        drop(sender);
        put.join().expect("no panic").expect("the upload finishes").expect(201);
    }
    let status = scene.gateway.wait(SOON);
    assert!(status.success(), "it ended with {status}");
    scene.gateway.serve();
    assert_eq!(scene.acme("drain").blob(&blob.digest).expect(200).body, blob.bytes);
}

/// The client of a write has gone away; the write has not.
#[test]
fn a_drain_waits_for_a_write_whose_client_has_gone() {
    let scene = Scene::open();
    let gate = Arc::new(Gate::default());
    let hold = gate.clone();
    let upstream = Faults::before(&scene.registry.url(), move |seen| {
        if seen.method == "PUT" {
            hold.pass();
        }
        None
    });
    let mut house = House::open(Gateway::before(&upstream.url()));
    let (repository, blob, image) = (house.acme("orphan"), Blob::random(1000), Manifest::image(1, 100));
    let host = house.gateway.authority().to_owned();
    let who = house.acme.admin.credentials().header().expect("a robot's");
    let location = repository.open_upload();
    let uploads: Vec<_> = [&image.blobs[0], &image.blobs[1], &blob]
        .into_iter()
        .map(|blob| {
            let mut raw = Raw::connect(&house.gateway.http());
            let target = with_digest(&repository.open_upload(), &blob.digest);
            let length = blob.bytes.len();
            raw.send(format!(
                "PUT {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: {who}\r\ncontent-length: {length}\r\n\r\n"
            ));
            raw.send(&blob.bytes);
            raw
        })
        .collect();
    within(SOON, || {
        (upstream.seen().iter().filter(|seen| seen.method == "PUT" && seen.whole).count() == 3).then_some(())
    });
    uploads.into_iter().for_each(Raw::drop_dead);
    let management = house.gateway.management();
    within(SOON, || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_connections 0").then_some(())
    });
    house.gateway.drain();
    within(SOON, || TcpStream::connect(host.replace("localhost", "127.0.0.1")).is_err().then_some(()));
    gate.open();
    let status = house.gateway.wait(SOON);
    assert!(status.success(), "it ended with {status}");
    house.gateway.serve();
    let repository = house.acme("orphan");
    assert_eq!(repository.blob(&blob.digest).expect(200).body, blob.bytes);
    repository.put_manifest("1.0", &image).expect(201);
    // An upload that nobody wrote to is as it was.
    repository.at(Method::DELETE, &location).send().expect(204);
}

#[test]
fn a_drain_waits_no_longer_than_it_may() {
    let scene = Scene::open();
    let upstream = Faults::before(&scene.registry.url(), |_| None);
    let mut house = House::open(Gateway::before(&upstream.url()).set("server.drain_timeout_s", 1));
    let (repository, blob) = (house.acme("stuck"), Blob::random(1000));
    let (sender, body) = pieces();
    sender.send(blob.bytes.clone());
    let put = repository.at(Method::PUT, &with_digest(&repository.open_upload(), &blob.digest)).stream(body);
    let putting = std::thread::spawn(move || put.attempt());
    let management = house.gateway.management();
    within(SOON, || {
        let metrics = management.get("/metrics").send();
        String::from_utf8_lossy(&metrics.body).contains("portcullis_requests_in_flight 1").then_some(())
    });
    let begun = Instant::now();
    house.gateway.drain();
    let status = house.gateway.wait(Duration::from_secs(15));
    assert!(status.success() && begun.elapsed() >= Duration::from_secs(1), "{status} after {:?}", begun.elapsed());
    putting.join().expect("no panic").expect_err("it was cut off");
    drop(sender);
    assert!(!upstream.wait_for(|seen| seen.method == "PUT").whole, "a cut upload is no finished one");
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let mut scene = Scene::open();
    let mut idle = Raw::connect(&scene.gateway.http());
    let host = scene.gateway.authority().to_owned();
    assert_eq!(idle.send(ping(&host)).answer().expect("an answer").status, 401);
    let silent = Raw::connect(&scene.gateway.http());
    let begun = Instant::now();
    scene.gateway.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(silent);
    idle.rest();
}
