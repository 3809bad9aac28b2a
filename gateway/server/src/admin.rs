//! The management listener: health, readiness, metrics, what policies do. On loopback or a Unix socket, never where clients are.

mod policies;

use crate::app::App;
use crate::config::ManagementListen;
use crate::listen::Phase;
use crate::origin::host_of;
use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// The open management socket.
pub enum Management {
    /// On loopback.
    Tcp(TcpListener),
    /// On a socket file.
    Unix(UnixListener, PathBuf),
}

impl Management {
    /// Where it listens, as text.
    pub fn address(&self) -> anyhow::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, path) => Ok(format!("unix:{}", path.display())),
        }
    }
}

/// Opens the management socket; a socket file is for its owner alone.
pub fn bind(listen: &ManagementListen) -> anyhow::Result<Management> {
    match listen {
        ManagementListen::Tcp(address) => {
            let listener =
                std::net::TcpListener::bind(address).with_context(|| format!("management.listen: {address}"))?;
            listener.set_nonblocking(true)?;
            Ok(Management::Tcp(TcpListener::from_std(listener)?))
        }
        ManagementListen::Unix(path) => {
            if std::os::unix::net::UnixStream::connect(path).is_err() {
                // Nobody answers there: it was left behind.
                let _ = fs::remove_file(path);
            }
            let listener =
                UnixListener::bind(path).with_context(|| format!("management.listen: unix:{}", path.display()))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(Management::Unix(listener, path.clone()))
        }
    }
}

#[derive(Clone)]
struct Shared {
    app: Arc<App>,
    phase: watch::Receiver<Phase>,
}

/// Serves management until it is aborted.
pub async fn serve(management: Management, app: Arc<App>, phase: watch::Receiver<Phase>) {
    let is_tcp = matches!(management, Management::Tcp(_));
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(policies::routes())
        .with_state(Shared { app, phase });
    if is_tcp {
        // A page in somebody's browser must not reach loopback under a name of its own.
        router = router.layer(middleware::from_fn(only_loopback_hosts));
    }
    let ended = match management {
        Management::Tcp(listener) => axum::serve(listener, router).await,
        Management::Unix(listener, _) => axum::serve(listener, router).await,
    };
    if let Err(error) = ended {
        tracing::error!(%error, "management ended");
    }
}

async fn only_loopback_hosts(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host_of(host).unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    {
        return next.run(request).await;
    }
    let body = "management is asked under a loopback name; this Host is none\n";
    (StatusCode::MISDIRECTED_REQUEST, body).into_response()
}

/// The process lives.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The process can do its work now: the store answers, the upstream answers, nothing is being shut down. What is degraded does not
/// make it unready.
async fn readyz(State(shared): State<Shared>) -> Response {
    let (ready, body) = readiness(&shared);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Whether it is ready, and what that comes of.
fn readiness(shared: &Shared) -> (bool, serde_json::Value) {
    let store = !shared.app.store.is_stale();
    let upstream = shared.app.telemetry.upstream_up.get() == 1;
    let draining = *shared.phase.borrow() == Phase::Draining;
    let ready = store && upstream && !draining;
    // Requests are served all the same: somebody has to look, and no balancer has to turn away.
    let audit = shared.app.audit.is_whole();
    let degraded: &[&str] = if audit { &[] } else { &["audit"] };
    let body = serde_json::json!({
        "ready": ready, "store": store, "upstream": upstream, "draining": draining, "audit": audit, "degraded": degraded,
    });
    (ready, body)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    shared.app.limits.measure();
    shared.app.audit.measure();
    let telemetry = &shared.app.telemetry;
    telemetry.store_up.set(i64::from(!shared.app.store.is_stale()));
    telemetry.ready.set(i64::from(readiness(&shared).0));
    let text = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], shared.app.telemetry.expose()).into_response()
}
