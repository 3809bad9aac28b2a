//! Health, readiness and metrics, on a listener of their own.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::image::Manifest;
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::{Scene, within};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_healthy_gateway_says_so() {
    let scene = Scene::shared();
    let management = scene.gateway.management();
    assert_eq!(management.get("/healthz").send().expect(200).body, "ok\n");
    let ready = within(SOON, || {
        let answer = management.get("/readyz").send();
        (answer.status == 200).then(|| answer.json())
    });
    let healthy = serde_json::json!({
        "ready": true, "store": true, "upstream": true, "draining": false, "audit": true, "degraded": [],
    });
    assert_eq!(ready, healthy);
    management.get("/").send().expect(404);
    management.post("/metrics").send().expect(405);
}

#[test]
fn metrics_have_the_names_and_units_of_the_conventions() {
    let scene = Scene::shared();
    scene.acme("metrics").manifest("none").expect(404);
    let metrics = scene.gateway.metrics();
    for line in [
        "# TYPE portcullis_requests counter",
        "# TYPE portcullis_request_duration_seconds histogram",
        "# UNIT portcullis_request_duration_seconds seconds",
        "# TYPE portcullis_requests_in_flight gauge",
        "# TYPE portcullis_received_bytes counter",
        "# UNIT portcullis_received_bytes bytes",
        "# TYPE portcullis_sent_bytes counter",
        "# TYPE portcullis_answers_broken_off counter",
        "# TYPE portcullis_connections gauge",
        "# TYPE portcullis_connections_refused counter",
        "# TYPE portcullis_upstream_up gauge",
        "# TYPE portcullis_store_up gauge",
        "# TYPE portcullis_audit_waiting gauge",
        "# TYPE portcullis_audit_lost counter",
        "# TYPE portcullis_reconcile_running gauge",
        "# TYPE portcullis_reconcile_last_run_timestamp_seconds gauge",
        "# UNIT portcullis_reconcile_last_run_timestamp_seconds seconds",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    for name in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(name.starts_with("portcullis_"), "{name}");
    }
    assert!(
        metrics.contains("portcullis_request_duration_seconds_bucket{le=\"0.001\",operation=\"manifest-pull\"}"),
        "{metrics}"
    );
}

#[test]
fn counters_move_with_what_happens() {
    let scene = Scene::open();
    let image = Manifest::image(1, 100_000);
    let sizes: usize = image.blobs.iter().chain([&image.blob]).map(|blob| blob.bytes.len()).sum();
    let repository = scene.acme("counted");
    let before = scene.gateway.metrics();
    repository.push("1.0", &image);
    repository.pull("1.0", &image);
    scene.gateway.http().get("/v2/").send().expect(401);
    repository.request(Method::GET, "nonsense").send().expect(404);
    let after = within(SOON, || {
        let metrics = scene.gateway.metrics();
        (metric(&metrics, "portcullis_requests_in_flight", "") == 0.0).then_some(metrics)
    });
    let moved = |name, labels| metric(&after, name, labels) - metric(&before, name, labels);
    let total = "portcullis_requests_total";
    assert_eq!(moved(total, "operation=\"upload-start\",status=\"202\""), 2.0, "{after}");
    assert_eq!(moved(total, "operation=\"upload-finish\",status=\"201\""), 2.0);
    assert_eq!(moved(total, "operation=\"manifest-push\",status=\"201\""), 1.0);
    assert_eq!(moved(total, "operation=\"manifest-pull\",status=\"200\""), 1.0);
    assert_eq!(moved(total, "operation=\"blob-pull\",status=\"200\""), 2.0);
    assert_eq!(moved(total, "operation=\"ping\",status=\"401\""), 1.0);
    assert_eq!(moved(total, "operation=\"none\",status=\"404\""), 1.0);
    assert_eq!(moved("portcullis_request_duration_seconds_count", "blob-pull"), 2.0);
    assert!(moved("portcullis_request_duration_seconds_sum", "blob-pull") > 0.0);
    assert_eq!(moved("portcullis_received_bytes_total", "") as usize, sizes);
    let sent = moved("portcullis_sent_bytes_total", "") as usize;
    assert!((sizes..sizes + 5000).contains(&sent), "{sent} of {sizes}");
    assert_eq!(metric(&after, "portcullis_upstream_up", ""), 1.0);
    assert_eq!(metric(&after, "portcullis_store_up", ""), 1.0);
    let held = Raw::connect(&scene.gateway.http());
    within(SOON, || (metric(&scene.gateway.metrics(), "portcullis_connections", "") >= 1.0).then_some(()));
    held.drop_dead();
    within(SOON, || (metric(&scene.gateway.metrics(), "portcullis_connections", "") == 0.0).then_some(()));
}

#[test]
fn management_is_asked_under_a_loopback_name_alone() {
    let scene = Scene::shared();
    let management = scene.gateway.management();
    for path in ["/healthz", "/readyz", "/metrics"] {
        for host in [
            "evil.example",
            "registry.example:9090",
            "localhost.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "a@localhost",
            "",
        ] {
            management.get(path).header("host", host).send().expect(421);
        }
        for host in ["localhost", "localhost:1", "127.0.0.1:9090", "127.8.8.8", "[::1]", "[::1]:9090", "LOCALHOST"] {
            assert_ne!(management.get(path).header("host", host).send().status, 421, "{path} as {host}");
        }
    }
}

#[test]
fn what_clients_reach_has_nothing_of_it() {
    let scene = Scene::shared();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let who = scene.acme.admin.credentials();
        scene.gateway.http().get(path).with(&who).send().refused(404, "UNSUPPORTED");
    }
}

#[test]
fn management_on_a_socket_file_is_for_its_owner_alone() {
    let upstream = Faults::scripted(|_| Answer::status(200));
    let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
    let socket = directory.path().join("management.sock");
    let mut gateway =
        Gateway::before(&upstream.url()).set("management.listen", format!("unix:{}", socket.display())).stopped();
    for _ in 0..2 {
        gateway.serve();
        let mode = std::fs::metadata(&socket).expect("it listens").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        // Who can open the file is on this machine: the host's name says nothing.
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
        // The file that a killed gateway leaves behind is no hindrance.
        gateway.kill();
    }
}

#[test]
fn connections_over_the_limit_are_turned_away_and_counted() {
    let scene = Scene::with(|builder| builder.set("limits.connections", 3));
    let http = scene.gateway.http();
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    let mut held: Vec<_> = (0..3).map(|_| Raw::connect(&http)).collect();
    for raw in &mut held {
        assert_eq!(raw.send(&ping).answer().expect("an answer").status, 401);
    }
    assert!(Raw::connect(&http).send(&ping).answer().is_none(), "the fourth is turned away");
    assert!(metric(&scene.gateway.metrics(), "portcullis_connections_refused_total", "") >= 1.0);
    for raw in &mut held {
        assert_eq!(raw.send(&ping).answer().expect("those that stand go on").status, 401);
    }
    held.pop().expect("there are three").drop_dead();
    within(SOON, || Raw::connect(&http).send(&ping).answer().filter(|answer| answer.status == 401));
}
