//! One request's trace: what it did and how long each part took, where it is sampled; and the context that goes on with it in any
//! case. Nothing of a path, a header or a body stands in it but what is put there by name, and nobody waits for it.

mod context;
mod exporter;
mod otlp;
mod value;

pub use context::{Context, SpanId, TraceId};
pub use exporter::Exporter;
pub use value::{Kind, Value};

use crate::config::Traces;
use http::HeaderMap;
use portcullis_store::Call;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::futures::TaskLocalFuture;

/// Most spans of one trace; a request that does more is shown as far as that.
const MAX_SPANS: usize = 128;
/// Most traces that wait to be exported.
const MAX_WAITING: usize = 512;

tokio::task_local! {
    static CURRENT: Current;
}

/// On whose behalf work is done.
#[derive(Clone)]
pub struct Current {
    /// The operation's name.
    pub operation: &'static str,
    /// Its trace, if it has one.
    pub trace: Option<Arc<Trace>>,
}

/// Does work on behalf of a request.
pub fn on_behalf_of<F: Future>(current: Current, work: F) -> TaskLocalFuture<Current, F> {
    CURRENT.scope(current, work)
}

/// Work for a task of its own, on behalf of the same request.
pub fn carried<F: Future>(work: F) -> TaskLocalFuture<Current, F> {
    let nobody = || Current { operation: crate::telemetry::BACKGROUND, trace: None };
    CURRENT.scope(CURRENT.try_with(Current::clone).unwrap_or_else(|_| nobody()), work)
}

/// The trace of the request that this is done for.
pub fn current() -> Option<Arc<Trace>> {
    CURRENT.try_with(|current| current.trace.clone()).ok().flatten()
}

/// The operation that this is done for.
pub fn operation() -> &'static str {
    CURRENT.try_with(|current| current.operation).unwrap_or(crate::telemetry::BACKGROUND)
}

/// Decides which requests are recorded, and hands their traces over to be exported.
pub struct Tracer {
    queue: Option<mpsc::Sender<Finished>>,
    exporter: Mutex<Option<Exporter>>,
    sampled_of_million: u32,
    turn: AtomicU64,
    metrics: TraceMetrics,
}

/// What is counted of spans.
#[derive(Clone, Default)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Counter,
}

impl TraceMetrics {
    /// Puts them among the gateway's.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("spans_exported", "Spans that the collector has taken", self.exported.clone());
        let help = "Spans that were lost: too many waited, or the collector did not take them";
        registry.register("spans_dropped", help, self.dropped.clone());
    }
}

impl Tracer {
    /// As configured; it records nothing where there is no collector.
    pub fn new(config: &Traces, metrics: TraceMetrics) -> anyhow::Result<Arc<Self>> {
        let (queue, exporter) = match &config.endpoint {
            None => (None, None),
            Some(endpoint) => {
                let (queue, waiting) = mpsc::channel(MAX_WAITING);
                (Some(queue), Some(Exporter::new(config, endpoint, waiting, metrics.clone())?))
            }
        };
        let mut seed = [0; 8];
        crate::app::random(&mut seed);
        Ok(Arc::new(Self {
            queue,
            exporter: Mutex::new(exporter),
            sampled_of_million: config.sample_of_million,
            turn: AtomicU64::new(u64::from_ne_bytes(seed)),
            metrics,
        }))
    }

    /// What sends traces away, for whoever runs it; once.
    pub fn take_exporter(&self) -> Option<Exporter> {
        self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A request's trace. `came` is the context that it brings from somebody who is trusted, and who has decided about
    /// recording. None where nothing came and nothing is recorded.
    pub fn begin(self: &Arc<Self>, came: Option<Context>) -> Option<Arc<Trace>> {
        let recorded = self.queue.is_some() && came.as_ref().map_or_else(|| self.is_sampled(), |came| came.sampled);
        let trace = came.as_ref().map(|came| came.trace);
        let recording = recorded.then(|| {
            let (began, began_at) = (Instant::now(), SystemTime::now());
            let (state, parent) = came.as_ref().map_or((None, None), |came| (came.state.clone(), Some(came.span)));
            let trace = trace.unwrap_or_else(TraceId::random);
            let (tracer, root, open) = (Arc::clone(self), SpanId::random(), Mutex::default());
            Recording { tracer, trace, root, parent, state, began, began_at, open }
        });
        let id = recording.as_ref().map(|recording| recording.trace).or(trace)?;
        Some(Arc::new(Trace { id, came, recording }))
    }

    /// One in so many, evenly; the order of requests tells nobody which.
    fn is_sampled(&self) -> bool {
        const MILLION: u32 = 1_000_000;
        match self.sampled_of_million {
            0 => false,
            MILLION.. => true,
            part => {
                let place = mixed(self.turn.fetch_add(1, Ordering::Relaxed)).checked_rem(MILLION.into());
                place.is_some_and(|place| place < part.into())
            }
        }
    }

    fn hand_over(&self, finished: Finished) {
        let spans = finished.spans.len() as u64;
        let taken = self.queue.as_ref().is_some_and(|queue| queue.try_send(finished).is_ok());
        if !taken {
            self.metrics.dropped.inc_by(spans);
        }
    }
}

/// Scatters a count over all numbers (the finalizer of SplitMix64).
fn mixed(count: u64) -> u64 {
    let mut bits = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// One request's trace. It is handed over when the last part of the work has let go of it.
pub struct Trace {
    id: TraceId,
    came: Option<Context>,
    recording: Option<Recording>,
}

struct Recording {
    tracer: Arc<Tracer>,
    trace: TraceId,
    root: SpanId,
    parent: Option<SpanId>,
    state: Option<http::HeaderValue>,
    began: Instant,
    began_at: SystemTime,
    open: Mutex<Open>,
}

/// What is written down so far.
#[derive(Default)]
struct Open {
    stage: Option<Record>,
    done: Vec<Record>,
    left_out: u64,
}

/// A trace that is complete.
struct Finished {
    trace: TraceId,
    state: Option<http::HeaderValue>,
    /// What its instants count from.
    began: Instant,
    began_at: SystemTime,
    spans: Vec<Record>,
}

/// One span that has ended, or is about to.
struct Record {
    id: SpanId,
    parent: Option<SpanId>,
    name: Cow<'static, str>,
    kind: Kind,
    began: Instant,
    ended: Instant,
    attributes: Vec<(&'static str, Value)>,
    error: Option<Cow<'static, str>>,
}

impl Trace {
    /// Its id.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// Whether it is recorded, so that there will be something under its id.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    /// A stage begins; the one before has ended.
    pub fn enter(&self, stage: &'static str) {
        let Some(recording) = &self.recording else { return };
        let record = Record::new(Some(recording.root), stage.into(), Kind::Internal, Instant::now());
        let mut open = recording.open();
        open.end_stage();
        open.stage = Some(record);
    }

    /// The last stage has ended.
    pub fn leave(&self) {
        if let Some(recording) = &self.recording {
            recording.open().end_stage();
        }
    }

    /// A call of the store has ended.
    pub fn store_call(&self, call: &Call) {
        let Some(recording) = &self.recording else { return };
        let mut open = recording.open();
        let parent = open.stage.as_ref().map_or(recording.root, |stage| stage.id);
        let mut record = Record::new(Some(parent), "store".into(), Kind::Client, call.began);
        record.ended = call.began.checked_add(call.took).unwrap_or(call.began);
        record.attributes.push(("db.operation.name", call.name.into()));
        record.error = call.failed.then(|| "the store failed".into());
        open.keep(record);
    }

    /// The request has ended, and this is what it was.
    pub fn finish(&self, name: &'static str, attributes: Vec<(&'static str, Value)>, error: Option<Cow<'static, str>>) {
        let Some(recording) = &self.recording else { return };
        let mut record = Record::new(recording.parent, name.into(), Kind::Server, recording.began);
        record.id = recording.root;
        record.ended = Instant::now();
        record.attributes = attributes;
        record.error = error;
        let mut open = recording.open();
        open.end_stage();
        open.done.push(record);
    }
}

impl Recording {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let open = std::mem::take(self.open.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.tracer.metrics.dropped.inc_by(open.left_out);
        let (trace, state, began, began_at) = (self.trace, self.state.take(), self.began, self.began_at);
        self.tracer.hand_over(Finished { trace, state, began, began_at, spans: open.done });
    }
}

impl Open {
    fn end_stage(&mut self) {
        if let Some(mut stage) = self.stage.take() {
            stage.ended = Instant::now();
            self.keep(stage);
        }
    }

    fn keep(&mut self, record: Record) {
        // The request's own span is put beside them in any case.
        if self.done.len() < MAX_SPANS {
            self.done.push(record);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

impl Record {
    fn new(parent: Option<SpanId>, name: Cow<'static, str>, kind: Kind, began: Instant) -> Self {
        let (id, attributes) = (SpanId::random(), Vec::new());
        Self { id, parent, name, kind, began, ended: began, attributes, error: None }
    }
}

/// A part of the work on a request, from here until this is dropped. It is nothing where nothing is recorded.
pub struct Span(Option<Box<(Arc<Trace>, Record)>>);

impl Span {
    /// A part of what is done for the current request.
    pub fn begin(name: &'static str, kind: Kind) -> Self {
        let Some(trace) = current() else { return Self(None) };
        let Some(recording) = &trace.recording else { return Self(None) };
        let parent = recording.open().stage.as_ref().map_or(recording.root, |stage| stage.id);
        let record = Record::new(Some(parent), name.into(), kind, Instant::now());
        Self(Some(Box::new((trace, record))))
    }

    /// Says something of it; `value` is asked for only where it is recorded.
    pub fn set<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(live) = &mut self.0 {
            live.1.attributes.push((key, value().into()));
        }
    }

    /// It has failed.
    pub fn failed(&mut self, error: &dyn std::fmt::Display) {
        if let Some(live) = &mut self.0 {
            live.1.error = Some(error.to_string().into());
        }
    }

    /// Hands the context on with a request that is sent for it: as a part of this span, or as it came.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        match &self.0 {
            Some(live) => {
                let (trace, record) = live.as_ref();
                let state = trace.came.as_ref().and_then(|came| came.state.clone());
                Context { trace: trace.id, span: record.id, sampled: true, state }.write(headers);
            }
            None => {
                if let Some(came) = current().as_ref().and_then(|trace| trace.came.as_ref()) {
                    came.write(headers);
                }
            }
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(live) = self.0.take() else { return };
        let (trace, mut record) = *live;
        record.ended = Instant::now();
        if let Some(recording) = &trace.recording {
            recording.open().keep(record);
        }
    }
}

#[cfg(test)]
mod tests;
