//! Traces on their way to a collector, by OTLP over HTTP: in batches, one at a time, on the control runtime. What the collector
//! does not take is dropped and counted; that it is away is said once.

use super::{Finished, TraceMetrics, otlp};
use crate::config::{TraceEndpoint, Traces};
use crate::upstream::{Connector, RequestBody, UpstreamError};
use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::SendRequest;
use portcullis_tenancy::random_id;
use serde_json::Value as Json;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// As many spans make a batch.
const BATCH: usize = 512;
/// How long the first span of a batch waits for more.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes of a collector's answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends traces away.
pub struct Exporter {
    waiting: mpsc::Receiver<Finished>,
    collector: Collector,
    resource: Json,
    metrics: TraceMetrics,
}

/// Where they go.
struct Collector {
    connector: Connector,
    path: String,
    headers: HeaderMap,
    patience: Duration,
    kept: Option<SendRequest<RequestBody>>,
}

impl Exporter {
    pub(super) fn new(
        config: &Traces,
        endpoint: &TraceEndpoint,
        waiting: mpsc::Receiver<Finished>,
        metrics: TraceMetrics,
    ) -> anyhow::Result<Self> {
        let connector = Connector::to(&endpoint.origin, config.ca_file.as_deref(), config.timeout)
            .context("traces.endpoint: no connection can be made")?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, connector.authority().clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static("portcullis"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &config.headers {
            let mut value = HeaderValue::from_str(value).context("traces.headers_file: no header's value")?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).context("traces.headers_file: no name")?, value);
        }
        let resource = otlp::resource(&config.service_name, &random_id(&crate::app::random));
        let (path, patience) = (endpoint.path.clone(), config.timeout);
        Ok(Self { waiting, collector: Collector { connector, path, headers, patience, kept: None }, resource, metrics })
    }

    /// Sends what is handed over until `over` is told or nobody is left, and then what still waits.
    pub async fn run(mut self, mut over: oneshot::Receiver<()>) {
        let (mut failing, mut ending) = (false, false);
        loop {
            let first = tokio::select! {
                first = self.waiting.recv() => first,
                _ = &mut over, if !ending => {
                    ending = true;
                    self.waiting.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let batch = self.gather(first).await;
            let spans = batch.iter().map(|trace| trace.spans.len() as u64).sum::<u64>();
            match self.collector.send(otlp::request(&self.resource, &batch).into()).await {
                Ok(rejected) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the collector takes traces again");
                    }
                    self.metrics.dropped.inc_by(rejected.min(spans));
                    self.metrics.exported.inc_by(spans.saturating_sub(rejected));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            collector = %self.collector.connector.origin(),
                            error,
                            "the collector does not take traces, which are dropped until it does; look at traces.endpoint"
                        );
                    }
                    self.metrics.dropped.inc_by(spans);
                }
            }
        }
    }

    async fn gather(&mut self, first: Finished) -> Vec<Finished> {
        let mut spans = first.spans.len();
        let mut batch = vec![first];
        let deadline = Instant::now().checked_add(LINGER).unwrap_or_else(Instant::now);
        while spans < BATCH {
            let Ok(Some(next)) = timeout_at(deadline, self.waiting.recv()).await else { break };
            spans = spans.saturating_add(next.spans.len());
            batch.push(next);
        }
        batch
    }
}

impl Collector {
    /// Sends one batch; returns how many of its spans were thrown away.
    async fn send(&mut self, body: Bytes) -> Result<u64, String> {
        let was_kept = self.kept.is_some();
        match self.send_once(body.clone()).await {
            // It may have been closed in the meantime.
            Err(_) if was_kept => self.send_once(body).await,
            sent => sent,
        }
    }

    async fn send_once(&mut self, body: Bytes) -> Result<u64, String> {
        let patience = self.patience;
        let sending = async {
            let kept = self.kept.take().filter(|kept| !kept.is_closed());
            let mut sender = match kept {
                Some(kept) => kept,
                None => self.connector.connect().await.map_err(unreachable)?,
            };
            let mut request = Request::post(&self.path).body(RequestBody::Full(body)).map_err(|e| e.to_string())?;
            request.headers_mut().extend(self.headers.clone());
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let answer = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let answer = answer.map_err(|error| error.to_string())?.to_bytes();
            self.kept = Some(sender);
            match status.is_success() {
                true => Ok(otlp::rejected(&answer)),
                false => Err(format!("it answered {}", status.as_u16())),
            }
        };
        timeout(patience, sending).await.map_err(|_| format!("no answer within {} s", patience.as_secs()))?
    }
}

/// The upstream's connector speaks of the upstream.
fn unreachable(error: UpstreamError) -> String {
    match error {
        UpstreamError::Connect(why) => format!("cannot connect to the collector: {why}"),
        UpstreamError::Deadline(what) => format!("the collector let the deadline for {what} pass"),
        other => other.to_string(),
    }
}
