//! What runs: the policies in force with what was counted of them, and real questions as they are asked.

use super::Shared;
use crate::policies::{Policies, Recorded};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::stream;
use portcullis_policy::{Owner, Status};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/policies", get(status)).route("/policies/questions", get(questions))
}

async fn status(State(shared): State<Shared>) -> Json<Value> {
    let policies = &shared.app.policies;
    let generation = policies.current();
    let all: Vec<Value> = generation.status().iter().map(|status| told(policies, status)).collect();
    Json(json!({
        "generation": generation.number(),
        "questions_turned_away": policies.unasked(),
        "policies": all,
    }))
}

fn told(policies: &Policies, status: &Status) -> Value {
    let counts = &status.counts;
    json!({
        "project": match &status.owner {
            Owner::Platform => Value::Null,
            Owner::Project(id) => policies.project_name(id).map_or(Value::Null, |name| Value::from(String::from(name))),
        },
        "name": status.name,
        "order": status.order,
        "mode": status.mode,
        "on_error": status.on_error,
        "digest": status.digest.as_str(),
        "running": status.running.as_ref().map(|digest| digest.as_str()),
        "version": status.version,
        "class": status.class,
        "hooks": status.hooks,
        "problem": status.problem,
        "verdicts": {
            "pass": counts.passed,
            "narrow": counts.narrowed,
            "deny": counts.denied,
            "would_deny": counts.would_deny,
        },
        "remembered": counts.remembered,
        "warnings": counts.warnings,
        "log_lines_dropped": counts.log_dropped,
        "failures": counts.failures,
        "metrics": counts.metrics,
        "p50_us": counts.p50.as_micros() as u64,
        "p99_us": counts.p99.as_micros() as u64,
        "last_failure": counts.last_failure.as_ref().map(ToString::to_string),
    })
}

/// Every question asked about one project, `?project=NAME`, from now on, a JSON document a line, until the listener goes away.
async fn questions(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "project");
    let Some((_, name)) = name else {
        return (StatusCode::BAD_REQUEST, "name the project: ?project=NAME\n").into_response();
    };
    let project = match shared.app.store.project(&name).await {
        Ok(Some(project)) => project.id.clone(),
        Ok(None) => return (StatusCode::NOT_FOUND, "there is no such project\n").into_response(),
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    };
    let listening = shared.app.policies.recorder.listen(&project);
    let lines = stream::unfold(listening, |mut questions| async move {
        let line = next(&mut questions).await?;
        Some((Ok::<_, std::convert::Infallible>(line), questions))
    });
    let kind = HeaderValue::from_static("application/jsonl");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response()
}

async fn next(questions: &mut Receiver<Arc<Recorded>>) -> Option<Bytes> {
    loop {
        match questions.recv().await {
            Ok(recorded) => {
                let mut line = serde_json::to_vec(&*recorded).ok()?;
                line.push(b'\n');
                return Some(line.into());
            }
            // Whoever is too slow misses some.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
