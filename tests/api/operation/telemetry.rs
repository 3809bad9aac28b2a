//! Health, readiness and metrics, on a listener of their own.

use http::Method;
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::{Gateway, metric};
use portcullis_tests::image::Manifest;
use portcullis_tests::raw::Raw;
use portcullis_tests::scene::{House, Scene, within};
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
        "# TYPE portcullis_refusals counter",
        "# TYPE portcullis_stage_duration_seconds histogram",
        "# UNIT portcullis_stage_duration_seconds seconds",
        "# TYPE portcullis_upstream_duration_seconds histogram",
        "# TYPE portcullis_upstream_failures counter",
        "# TYPE portcullis_upstream_connections_open gauge",
        "# TYPE portcullis_store_call_duration_seconds histogram",
        "# TYPE portcullis_store_call_failures counter",
        "# TYPE portcullis_logins counter",
        "# TYPE portcullis_build info",
        "# TYPE portcullis_thread_lag_seconds histogram",
        "# TYPE process_cpu_seconds counter",
        "# UNIT process_cpu_seconds seconds",
        "# TYPE process_resident_memory_bytes gauge",
        "# TYPE process_open_fds gauge",
        "# TYPE process_start_time_seconds gauge",
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
        assert!(name.starts_with("portcullis_") || name.starts_with("process_"), "{name}");
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
fn stages_upstream_store_and_logins_are_measured() {
    let scene = Scene::open();
    let (image, repository) = (Manifest::image(1, 1000), scene.acme("measured"));
    repository.push("1.0", &image);
    let before = scene.gateway.metrics();
    repository.manifest("1.0").expect(200);
    repository.manifest("none").expect(404);
    let http = scene.gateway.http();
    http.get("/v2/acme/measured/tags/list").send().expect(401);
    let (who, scope) = (scene.acme.pull.credentials(), "repository:acme/measured:pull");
    let token = scene.gateway.token(&who, &[scope]);
    scene.gateway.ask_token(&portcullis_tests::http::Credentials::None, &[scope]).expect(200);
    let wrong = portcullis_tests::http::Credentials::Basic("acme+nobody".to_owned(), "wrong".to_owned());
    scene.gateway.ask_token(&wrong, &[scope]).expect(401);
    for _ in 0..2 {
        scene.gateway.repository("acme/measured", &token).manifest("1.0").expect(200);
    }
    let after = within(SOON, || {
        let metrics = scene.gateway.metrics();
        (metric(&metrics, "portcullis_requests_in_flight", "") == 0.0).then_some(metrics)
    });
    let moved = |name, labels| metric(&after, name, labels) - metric(&before, name, labels);
    let stage = "portcullis_stage_duration_seconds_count";
    // Three challenges ask where the token endpoint is.
    assert_eq!(moved(stage, "stage=\"receive\""), 4.0 + 1.0 + 3.0 * 2.0, "{after}");
    assert_eq!(moved(stage, "stage=\"token\""), 3.0);
    assert_eq!(moved(stage, "stage=\"forward\""), 4.0);
    assert_eq!(moved(stage, "stage=\"reserve\""), 4.0);
    assert!(moved("portcullis_stage_duration_seconds_sum", "stage=\"forward\"") > 0.0);
    assert_eq!(moved("portcullis_upstream_duration_seconds_count", "operation=\"manifest-pull\""), 4.0);
    let refusals = "portcullis_refusals_total";
    assert_eq!(moved(refusals, "decision=\"challenge\""), 5.0);
    assert_eq!(moved(refusals, "decision=\"refuse\""), 1.0);
    assert_eq!(metric(&after, refusals, "decision=\"quota\""), 0.0);
    assert!(after.contains("portcullis_refusals_total{decision=\"quota\"} 0"), "what has not happened stands there");
    let logins = "portcullis_logins_total";
    for outcome in ["accepted", "anonymous", "refused"] {
        let labels = format!("outcome=\"{outcome}\"");
        assert_eq!(metric(&after, logins, &labels) - metric(&before, logins, &labels), 1.0, "{outcome}");
    }
    assert_eq!(moved("portcullis_tokens_verified_total", ""), 1.0);
    assert_eq!(moved("portcullis_tokens_remembered_total", ""), 1.0);
    // The generation is asked for twice in a second.
    let (calls, generation) = ("portcullis_store_call_duration_seconds_count", "call=\"key::generation\"");
    within(SOON, || (metric(&scene.gateway.metrics(), calls, generation) > 0.0).then_some(()));
    assert_eq!(metric(&after, "portcullis_store_call_failures_total", ""), 0.0);
    assert_eq!(metric(&after, "portcullis_upstream_connections_limit", ""), 256.0);
    let (open, idle) = ("portcullis_upstream_connections_open", "portcullis_upstream_connections_idle");
    assert!(metric(&after, open, "") >= metric(&after, idle, "") && metric(&after, idle, "") >= 1.0, "{after}");
    assert_eq!(metric(&after, "portcullis_ready", ""), 1.0);
    let year = 365.0 * 86_400.0;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let left = metric(&after, "portcullis_certificate_ends_timestamp_seconds", "") - now;
    assert!((year..1.1 * year).contains(&left), "{left}");
    let started = metric(&after, "process_start_time_seconds", "");
    assert!((now - 3600.0..=now + 2.0).contains(&started), "{started} is not a moment before {now}");
    assert!(metric(&after, "process_resident_memory_bytes", "") > 1e6);
    assert!(metric(&after, "process_cpu_seconds_total", "") > 0.0);
    assert!(metric(&after, "process_open_fds", "") > 3.0);
    assert!(after.contains(&format!("portcullis_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
    within(SOON, || (metric(&scene.gateway.metrics(), "portcullis_thread_lag_seconds_count", "") > 0.0).then_some(()));
}

#[test]
fn an_upstream_that_fails_is_counted_by_how_it_fails() {
    let upstream = Faults::scripted(|seen| match seen.path() {
        path if path.ends_with("/cut") => Answer::hang_up(),
        path if path.ends_with("/late") => Answer::silence(),
        _ => Answer::status(200),
    });
    let house = House::open(Gateway::before(&upstream.url()).set("upstream.first_byte_timeout_s", 1));
    for (tag, kind) in [("cut", "broken"), ("late", "deadline")] {
        let failures = || {
            let labels = format!("kind=\"{kind}\"");
            metric(&house.gateway.metrics(), "portcullis_upstream_failures_total", &labels)
        };
        let before = failures();
        house.acme("a").manifest(tag).refused(502, "UNAVAILABLE");
        assert!(failures() > before, "{kind}");
    }
    let refusals = metric(&house.gateway.metrics(), "portcullis_refusals_total", "decision=\"upstream-failed\"");
    assert_eq!(refusals, 2.0);
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
