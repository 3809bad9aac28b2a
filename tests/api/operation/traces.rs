//! Traces: what one request did, exported by OTLP; whose context is taken, and to whom it is handed on.

use portcullis_tests::collector::{Collector, Span};
use portcullis_tests::faults::{Answer, Faults};
use portcullis_tests::gateway::{Builder, Gateway, metric};
use portcullis_tests::image::Manifest;
use portcullis_tests::registry::Registry;
use portcullis_tests::scene::{House, Scene, within};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Everything is traced, and this machine is trusted or not.
fn traced(builder: Builder, collector: &Collector, ratio: f64, trusting: bool) -> Builder {
    let networks: toml_edit::Array = trusting.then_some("127.0.0.0/8").into_iter().collect();
    builder
        .set("traces.endpoint", collector.url())
        .set("traces.sample_ratio", ratio)
        .set("log.format", "json")
        .set("log.trusted_networks", networks)
}

/// The requests that were handed on to the registry, but for what the gateway asks for itself.
fn handed_on(upstream: &Faults) -> Vec<portcullis_tests::faults::Seen> {
    upstream.seen().into_iter().filter(|seen| seen.target.contains("/manifests/")).collect()
}

/// The access line in which this field has this value, once there is one.
fn access_line(house: &House, field: &str, value: &str) -> Value {
    within(SOON, || {
        let log = house.gateway.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["target"] == "access" && line[field] == value)
    })
}

#[test]
fn a_pull_is_shown_with_its_stages_and_what_it_asked_of_others() {
    let (collector, registry) = (Collector::start(), Registry::start());
    let upstream = Faults::before(&registry.url(), |_| None);
    let house = House::open(traced(Gateway::before(&upstream.url()), &collector, 1.0, false));
    let (repository, image) = (house.acme("traced"), Manifest::image(1, 1000));
    repository.push("1.0", &image);
    repository.manifest("1.0").expect(200);
    let trace = collector.trace_of("manifest-pull", 200);

    let named = |name: &str| -> &Span {
        let found = trace.iter().find(|span| span.name() == name);
        found.unwrap_or_else(|| panic!("no span {name}: {trace:#?}"))
    };
    let root = named("manifest-pull");
    assert_eq!((root.parent(), root.trace().len(), root.id().len()), ("", 32, 16), "{root:?}");
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("url.scheme", "https"),
        ("server.address", "localhost"),
        ("client.address", "127.0.0.1"),
        ("portcullis.project", "acme"),
        ("portcullis.repository", "acme/traced"),
        ("portcullis.robot", &house.acme.admin.username),
        ("portcullis.decision", "allow"),
    ] {
        assert_eq!(root.text(key), expected, "{key}: {root:?}");
    }
    let (began, ended) = root.times();
    for stage in ["receive", "identify", "authorize", "admit", "inspect", "screen", "reserve", "forward"] {
        let span = named(stage);
        assert_eq!(span.parent(), root.id(), "{stage}");
        assert!(span.times().0 >= began && span.times().1 <= ended, "{stage}: {trace:#?}");
    }
    let sent = named("upstream");
    assert_eq!((sent.parent(), sent.text("http.response.status_code").as_str()), (named("forward").id(), "200"));
    let last = handed_on(&upstream).pop().expect("it was asked");
    assert_eq!(last.header("traceparent"), format!("00-{}-{}-01", root.trace(), sent.id()));
    let line = access_line(&house, "trace.id", root.trace());
    assert_eq!(line["request.id"], root.text("portcullis.request_id"));
    // Path, token and digest are nobody's business who reads traces.
    let all = format!("{trace:?}");
    assert!(!all.contains("/v2/") && !all.contains(&house.acme.admin.token), "{all}");

    let metrics = within(SOON, || {
        let metrics = house.gateway.metrics();
        let bucket = |line: &&str| line.starts_with("portcullis_request_duration_seconds_bucket");
        let leads = |line: &&str| line.contains(&format!("# {{trace_id=\"{}\"}}", root.trace()));
        metrics.lines().filter(bucket).any(|line| leads(&line)).then_some(metrics)
    });
    assert!(metric(&metrics, "portcullis_spans_exported_total", "") >= trace.len() as f64);
    assert_eq!(metric(&metrics, "portcullis_spans_dropped_total", ""), 0.0);
}

#[test]
fn a_push_shows_the_store_and_goes_on_in_a_task_of_its_own() {
    let collector = Collector::start();
    let scene = Scene::with(|builder| traced(builder, &collector, 1.0, false));
    let (repository, image) = (scene.acme("traced"), Manifest::image(1, 1000));
    repository.push("1.0", &image);
    let trace = collector.trace_of("manifest-push", 201);
    let forward = trace.iter().find(|span| span.name() == "forward").expect("a write is forwarded");
    let below: Vec<&str> = trace.iter().filter(|span| span.parent() == forward.id()).map(|span| span.name()).collect();
    assert!(below.contains(&"upstream") && below.contains(&"store"), "{trace:#?}");
    let calls = trace.iter().filter(|span| span.name() == "store").map(|span| span.text("db.operation.name"));
    assert!(calls.into_iter().all(|call| call.contains("::")), "{trace:#?}");

    scene.gateway.http().get("/v2/acme/traced/tags/list").send().expect(401);
    let trace = collector.trace_of("tags-list", 401);
    let root = trace.iter().find(|span| span.parent().is_empty()).expect("a first one");
    assert_eq!((root.name(), root.text("portcullis.decision").as_str()), ("tags-list", "challenge"));
    assert!(!root.is_error() && !trace.iter().any(|span| span.name() == "forward"), "{trace:#?}");
}

#[test]
fn a_trace_from_a_listed_network_goes_on_and_is_handed_on() {
    let (collector, registry) = (Collector::start(), Registry::start());
    let upstream = Faults::before(&registry.url(), |_| None);
    // By itself, the gateway would trace nothing.
    let house = House::open(traced(Gateway::before(&upstream.url()), &collector, 0.0, true));
    let repository = house.acme("traced");
    repository.push("1.0", &Manifest::image(1, 1000));
    let pull = |parent: &str, id: &str| {
        let pull = repository.request(http::Method::GET, "manifests/1.0").header("traceparent", parent);
        pull.header("tracestate", "vendor=1").header("x-request-id", id).send().expect(200);
        (access_line(&house, "request.id", id), handed_on(&upstream).pop().expect("it was asked"))
    };
    let (line, sent) = pull(PARENT, "first");
    assert_eq!(line["trace.id"], TRACE);
    let trace = collector.trace_of("manifest-pull", 200);
    let root = trace.iter().find(|span| span.name() == "manifest-pull").expect("the request's own");
    assert_eq!((root.trace(), root.parent(), root.field("traceState")), (TRACE, SPAN, "vendor=1"));
    let below = trace.iter().find(|span| span.name() == "upstream").expect("it was asked");
    assert_eq!(sent.header("traceparent"), format!("00-{TRACE}-{}-01", below.id()));
    assert_eq!(sent.header("tracestate"), "vendor=1");

    // Who says that it is not recorded is believed, too: it passes as it came.
    let unrecorded = PARENT.replace("-01", "-00");
    let (line, sent) = pull(&unrecorded, "second");
    assert_eq!((sent.header("traceparent"), sent.header("tracestate")), (unrecorded.as_str(), "vendor=1"));
    assert_eq!(line["trace.id"], TRACE);
    // What makes no sense is nothing.
    let (line, sent) = pull("00-nonsense", "third");
    assert_eq!((sent.header("traceparent"), sent.header("tracestate")), ("", ""));
    assert_eq!(line["trace.id"], Value::Null);
    assert!(collector.spans().iter().all(|span| span.trace() == TRACE), "{:#?}", collector.spans());
}

#[test]
fn a_trace_from_anybody_else_is_not_taken() {
    let (collector, registry) = (Collector::start(), Registry::start());
    let upstream = Faults::before(&registry.url(), |_| None);
    let house = House::open(traced(Gateway::before(&upstream.url()), &collector, 1.0, false));
    let repository = house.acme("traced");
    repository.push("1.0", &Manifest::image(1, 1000));
    let pull = repository.request(http::Method::GET, "manifests/1.0").header("traceparent", PARENT);
    pull.header("tracestate", "vendor=1").send().expect(200);
    let trace = collector.trace_of("manifest-pull", 200);
    let root = trace.iter().find(|span| span.name() == "manifest-pull").expect("the request's own");
    assert!(root.trace() != TRACE && root.parent().is_empty() && root.field("traceState").is_empty(), "{root:?}");
    let sent = handed_on(&upstream).pop().expect("it was asked");
    assert!(!sent.header("traceparent").contains(TRACE) && sent.header("tracestate").is_empty(), "{sent:?}");
}

#[test]
fn without_a_collector_there_is_no_trace_and_a_trusted_one_passes() {
    let registry = Registry::start();
    let upstream = Faults::before(&registry.url(), |_| None);
    let networks: toml_edit::Array = ["127.0.0.0/8"].into_iter().collect();
    let house =
        House::open(Gateway::before(&upstream.url()).set("log.trusted_networks", networks).set("log.format", "json"));
    let repository = house.acme("traced");
    repository.push("1.0", &Manifest::image(1, 1000));
    let pull = |id: &str| repository.request(http::Method::GET, "manifests/1.0").header("x-request-id", id);
    pull("untraced").send().expect(200);
    assert!(upstream.seen().iter().all(|seen| seen.header("traceparent").is_empty()));
    assert_eq!(access_line(&house, "request.id", "untraced")["trace.id"], Value::Null);
    pull("traced").header("traceparent", PARENT).send().expect(200);
    assert_eq!(handed_on(&upstream).pop().expect("it was asked").header("traceparent"), PARENT);
}

#[test]
fn a_collector_that_is_away_is_said_once_and_holds_nobody_up() {
    let gone = Collector::start();
    let scene = Scene::with(|builder| traced(builder, &gone, 1.0, false).set("traces.timeout_s", 1));
    let repository = scene.acme("traced");
    repository.push("1.0", &Manifest::image(1, 1000));
    let address = gone.url();
    drop(gone);
    // More than one batch is lost.
    for lost in 1..=3 {
        let before = metric(&scene.gateway.metrics(), "portcullis_spans_dropped_total", "");
        repository.manifest("1.0").expect(200);
        within(SOON, || {
            let dropped = metric(&scene.gateway.metrics(), "portcullis_spans_dropped_total", "");
            (dropped > before).then_some(())
        });
        let said = scene.gateway.log().matches("the collector does not take traces").count();
        assert_eq!(said, 1, "after {lost} lost batches");
    }
    let log = scene.gateway.log();
    let said = log.lines().find(|line| line.contains("the collector does not take traces")).unwrap_or_default();
    assert!(said.contains(&address) && !said.contains("upstream"), "{said}");
}

#[test]
fn a_collector_that_never_answers_makes_no_request_wait() {
    let mute = Collector::answering(|_| Answer::silence());
    let scene = Scene::with(|builder| traced(builder, &mute, 1.0, false).set("traces.timeout_s", 60));
    let repository = scene.acme("traced");
    repository.push("1.0", &Manifest::image(1, 1000));
    within(SOON, || (!mute.exports().is_empty()).then_some(()));
    // The exporter waits, and more come than have room: they are dropped, and every request is answered.
    let ping = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\n\r\n", scene.gateway.authority());
    let mut raw = portcullis_tests::raw::Raw::connect(&scene.gateway.http());
    for _ in 0..600 {
        assert_eq!(raw.send(&ping).answer().expect("an answer").status, 401);
    }
    repository.manifest("1.0").expect(200);
    assert!(metric(&scene.gateway.metrics(), "portcullis_spans_dropped_total", "") > 0.0);
    assert_eq!(mute.exports().len(), 1, "one batch at a time");
}

#[test]
fn what_still_waits_is_sent_before_the_end_with_the_collectors_own_header() {
    let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
    let headers = directory.path().join("headers");
    std::fs::write(&headers, "x-collector-key: the-key-of-the-collector\n").expect("the test's own directory");
    let collector = Collector::start();
    let mut scene = Scene::with(|builder| {
        let file = headers.to_string_lossy().into_owned();
        traced(builder, &collector, 1.0, false).set("traces.headers_file", file).set("log.level", "trace")
    });
    scene.gateway.http().get("/v2/").send().expect(401);
    scene.gateway.stop();
    assert!(collector.spans().iter().any(|span| span.name() == "ping"), "{:#?}", collector.spans());
    for export in collector.exports() {
        assert_eq!((export.method.as_str(), export.target.as_str()), ("POST", "/v1/traces"));
        assert_eq!(export.header("x-collector-key"), "the-key-of-the-collector");
        assert_eq!(export.header("content-type"), "application/json");
        let body: Value = serde_json::from_slice(&export.body).expect("JSON");
        let service = &body["resourceSpans"][0]["resource"]["attributes"][0];
        assert_eq!(service["value"]["stringValue"], "portcullis");
    }
}
