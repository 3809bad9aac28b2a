use super::*;
use crate::config::{PublicUrl, TraceEndpoint};
use std::time::Duration;

fn tracer(sample_of_million: u32) -> (Arc<Tracer>, mpsc::Receiver<Finished>) {
    let (queue, waiting) = mpsc::channel(2);
    let tracer = Tracer {
        queue: Some(queue),
        exporter: Mutex::default(),
        sampled_of_million: sample_of_million,
        turn: AtomicU64::new(0),
        metrics: TraceMetrics::default(),
    };
    (Arc::new(tracer), waiting)
}

fn context(sampled: bool) -> Context {
    let state = Some(http::HeaderValue::from_static("vendor=1"));
    Context { trace: TraceId::random(), span: SpanId::random(), sampled, state }
}

fn behalf(trace: &Option<Arc<Trace>>) -> Current {
    Current { operation: "blob-pull", trace: trace.clone() }
}

#[tokio::test]
async fn spans_hang_below_the_stage_that_they_are_in() {
    let (tracer, mut waiting) = tracer(1_000_000);
    let trace = tracer.begin(None);
    on_behalf_of(behalf(&trace), async {
        current().unwrap().enter("forward");
        let mut span = Span::begin("upstream", Kind::Client);
        span.set("http.response.status_code", || 200_u16);
        drop(span);
        // A task of its own goes on when the request is over.
        tokio::spawn(carried(async { drop(Span::begin("later", Kind::Internal)) })).await.unwrap();
    })
    .await;
    trace.as_ref().unwrap().finish("blob-pull", vec![("portcullis.decision", "allow".into())], None);
    assert!(waiting.try_recv().is_err(), "somebody still has it");
    drop(trace);
    let finished = waiting.try_recv().unwrap();
    let named = |name: &str| finished.spans.iter().find(|span| span.name == name).unwrap();
    let (root, stage) = (named("blob-pull"), named("forward"));
    assert_eq!((root.parent, root.kind), (None, Kind::Server));
    assert_eq!(stage.parent, Some(root.id));
    assert_eq!((named("upstream").parent, named("later").parent), (Some(stage.id), Some(stage.id)));
    assert_eq!(named("upstream").attributes, [("http.response.status_code", Value::Number(200))]);
    assert!(finished.spans.iter().all(|span| span.began <= span.ended));
}

#[tokio::test]
async fn a_context_that_is_trusted_goes_on_and_decides() {
    // By itself, nothing would be recorded.
    let (tracer, mut waiting) = tracer(0);
    let came = context(true);
    let trace = tracer.begin(Some(came.clone()));
    let sent = on_behalf_of(behalf(&trace), async {
        let mut headers = HeaderMap::new();
        Span::begin("upstream", Kind::Client).propagate(&mut headers);
        Context::read(&headers).unwrap()
    })
    .await;
    assert_eq!((sent.trace, &sent.state, sent.sampled), (came.trace, &came.state, true));
    trace.as_ref().unwrap().finish("ping", Vec::new(), None);
    drop(trace);
    let finished = waiting.try_recv().unwrap();
    let named = |name: &str| finished.spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!((finished.trace, named("ping").parent), (came.trace, Some(came.span)));
    assert_eq!(named("upstream").id, sent.span);
}

#[tokio::test]
async fn what_is_not_recorded_passes_its_context_on_as_it_came() {
    let (tracer, mut waiting) = tracer(1_000_000);
    let came = context(false);
    let trace = tracer.begin(Some(came.clone()));
    assert!(!trace.as_ref().unwrap().is_recorded());
    let sent = on_behalf_of(behalf(&trace), async {
        let mut headers = HeaderMap::new();
        Span::begin("upstream", Kind::Client).propagate(&mut headers);
        Context::read(&headers)
    })
    .await;
    assert_eq!(sent, Some(came));
    drop(trace);
    assert!(waiting.try_recv().is_err());

    let mut headers = HeaderMap::new();
    Span::begin("upstream", Kind::Client).propagate(&mut headers);
    assert!(headers.is_empty(), "nobody's request has no context");
}

#[test]
fn as_many_are_recorded_as_are_asked_for() {
    for (part, expected) in [(0, 0..=0), (1_000_000, 10_000..=10_000), (100_000, 800..=1200)] {
        let (tracer, _waiting) = tracer(part);
        let recorded = (0..10_000).filter(|_| tracer.is_sampled()).count();
        assert!(expected.contains(&recorded), "{recorded} of 10 000 at {part} of a million");
    }
    let off = Traces { endpoint: None, sample_of_million: 1_000_000, ..Traces::default() };
    let tracer = Tracer::new(&off, TraceMetrics::default()).unwrap();
    assert!(tracer.begin(None).is_none(), "there is no collector");
    assert!(tracer.begin(Some(context(true))).is_some_and(|trace| !trace.is_recorded()));
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (tracer, mut waiting) = tracer(1_000_000);
    for _ in 0..3 {
        tracer.begin(None).unwrap().finish("ping", Vec::new(), None);
    }
    assert_eq!(tracer.metrics.dropped.get(), 1);
    let large = tracer.begin(None).unwrap();
    waiting.try_recv().unwrap();
    for _ in 0..200 {
        large.enter("screen");
    }
    large.finish("ping", Vec::new(), None);
    drop(large);
    assert_eq!(tracer.metrics.dropped.get(), 1 + 200 - MAX_SPANS as u64);
    waiting.try_recv().unwrap();
    let large = waiting.try_recv().unwrap();
    assert_eq!(large.spans.len(), MAX_SPANS + 1);
    assert_eq!(large.spans.last().unwrap().name, "ping");
}

#[test]
fn the_wire_form_is_that_of_the_protocol() {
    let (tracer, mut waiting) = tracer(1_000_000);
    let came = context(true);
    let trace = tracer.begin(Some(came.clone())).unwrap();
    trace.enter("receive");
    let told = vec![("client.address", "\u{202e}x".to_owned().into()), ("http.response.status_code", 500_u16.into())];
    trace.finish("manifest-pull", told, Some("it broke".into()));
    drop(trace);
    let finished = [waiting.try_recv().unwrap()];
    let body = otlp::request(&otlp::resource("front", "one"), &finished);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let service = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(*service, serde_json::json!({"key": "service.name", "value": {"stringValue": "front"}}));
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let (stage, root) = (&spans[0], &spans[1]);
    assert_eq!(stage["parentSpanId"], root["spanId"]);
    assert_eq!((&stage["kind"], &root["kind"]), (&1.into(), &2.into()));
    assert_eq!(root["traceId"], came.trace.to_string());
    assert_eq!((&root["parentSpanId"], &root["traceState"]), (&came.span.to_string().into(), &"vendor=1".into()));
    assert_eq!(root["status"], serde_json::json!({"code": 2, "message": "it broke"}));
    assert_eq!(root["attributes"][0]["value"]["stringValue"], "?x");
    assert_eq!(root["attributes"][1]["value"]["intValue"], "500");
    let time = |key: &str| root[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(
        time("startTimeUnixNano") > 1_500_000_000_000_000_000 && time("endTimeUnixNano") >= time("startTimeUnixNano")
    );
}

#[test]
fn what_a_collector_rejects_is_read_from_its_answer() {
    for (answer, rejected) in [
        ("{}", 0),
        ("", 0),
        ("{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}", 3),
        ("{\"partialSuccess\":{\"rejectedSpans\":4}}", 4),
        ("{\"partialSuccess\":{\"rejectedSpans\":-1}}", 0),
        ("[]", 0),
    ] {
        assert_eq!(otlp::rejected(answer.as_bytes()), rejected, "{answer}");
    }
}

#[test]
fn an_exporter_is_there_once_and_only_where_there_is_a_collector() {
    let origin = PublicUrl::parse("http://127.0.0.1:1").unwrap();
    let endpoint = Some(TraceEndpoint { origin, path: "/v1/traces".to_owned() });
    let config = Traces { endpoint, timeout: Duration::from_secs(1), ..Traces::default() };
    let tracer = Tracer::new(&config, TraceMetrics::default()).unwrap();
    assert!(tracer.take_exporter().is_some() && tracer.take_exporter().is_none());
    assert!(Tracer::new(&Traces::default(), TraceMetrics::default()).unwrap().take_exporter().is_none());
}
