//! `portcullis serve`: from a checked configuration to open sockets, and from a signal to a clean end.

use crate::admin;
use crate::app::{App, Settings, random};
use crate::audit;
use crate::config::{self, Config};
use crate::limits;
use crate::listen::{self, Lanes, Phase};
use crate::master_key;
use crate::sweeper;
use crate::telemetry;
use crate::tls::Certificate;
use crate::walk;
use anyhow::Context;
use portcullis_store::CachedStore;
use portcullis_tenancy::key::{self, MasterKey, Purpose};
use portcullis_tenancy::{Store, Timestamp, random_id};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Most threads of the control runtime: store, management, signals. It has one for each four cores: what it does is short, and
/// threads that hand each other work spend more on waking than they gain.
const CONTROL_THREADS: usize = 4;

/// Serves until SIGTERM or SIGINT.
pub fn run(config: Config, config_file: &Path) -> anyhow::Result<()> {
    telemetry::init_log(&config.log);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 4).clamp(1, CONTROL_THREADS))
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, config_file.to_owned()))
}

async fn serve(config: Config, config_file: PathBuf) -> anyhow::Result<()> {
    outlive_file_limits()?;
    master_key::prepare_dir(&config.data_dir)?;
    let store = portcullis_store::open(&config.store.url, config.store.max_connections).await.context("store.url")?;
    let store: Arc<dyn Store> = Arc::new(store);
    let master = master_key::open(&config.data_dir, &store.keys().await?)?;
    let issuer = store.deployment(&random_id(&random)).await?;
    ensure_signing_key(store.as_ref(), &config, &master).await?;
    let store = CachedStore::new(store, Handle::current(), config.store.stale_max);
    store.refresh().await?;
    let polling = tokio::spawn(Arc::clone(&store).poll());

    let certificate = Certificate::load(&config)?;
    let tls = certificate.as_ref().map(Certificate::server_config).transpose()?;
    let listeners = listen::bind(&config.server.listen)?;
    let management = admin::bind(&config.management.listen)?;
    let registry = listeners.first().map(tokio::net::TcpListener::local_addr).transpose()?;
    let management_address = management.address()?;

    let app = App::new(config, store, master, issuer).await?;
    let (phase, watching) = watch::channel(Phase::Serving);
    note_end(&app, certificate.as_deref());
    let lanes = Arc::new(Lanes::start(&app, tls, &watching)?);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(Arc::clone(&lanes).accept(Arc::clone(&app), listener, watching.clone())))
        .collect();
    let background = [
        tokio::spawn(admin::serve(management, Arc::clone(&app), watching.clone())),
        tokio::spawn(sweeper::run(Arc::clone(&app))),
        tokio::spawn(audit::run(Arc::clone(&app))),
        tokio::spawn(walk::run_in_background(Arc::clone(&app))),
        tokio::spawn(limits::show_life(Arc::clone(&app))),
        tokio::spawn(Arc::clone(&app.policies).keep_up(Arc::clone(&app.store))),
    ];
    let (no_more_traces, over) = oneshot::channel();
    let exporting = app.tracer.take_exporter().map(|exporter| tokio::spawn(exporter.run(over)));
    // Whoever hears that it is ready may send a signal at once.
    let signals = Signals::heed()?;
    announce(registry.map(|address| address.to_string()), &management_address);

    until_told_to_stop(&app, certificate.as_deref(), &config_file, signals).await?;
    tracing::info!("draining: requests under way finish, new connections are refused");
    phase.send_replace(Phase::Draining);
    for task in accepting {
        let _ = task.await;
    }
    if let Ok(lanes) = Arc::try_unwrap(lanes).map_err(drop) {
        tokio::task::spawn_blocking(move || lanes.join()).await?;
    }
    sweeper::write_uses(&app).await;
    audit::close(&app).await;
    if let Some(exporting) = exporting {
        let _ = no_more_traces.send(());
        let patience = app.settings.load().config.traces.timeout;
        let _ = timeout(patience, exporting).await;
    }
    for task in background {
        task.abort();
    }
    polling.abort();
    Ok(())
}

/// A deployment's first start makes its first key.
async fn ensure_signing_key(store: &dyn Store, config: &Config, master: &MasterKey) -> anyhow::Result<()> {
    if store.keys().await?.is_empty() {
        let overlap = config.tokens.life.saturating_add(config.tokens.upload_grace);
        let seal = master.seal_key(Purpose::SigningKeys);
        key::rotate(store, config.tokens.algorithm, &seal, overlap, Timestamp::now(), &random).await?;
    }
    Ok(())
}

/// The one line on standard output: where it listens, for whoever started it.
fn announce(registry: Option<String>, management: &str) {
    let registry = registry.unwrap_or_default();
    tracing::info!(registry, management, "ready");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "portcullis ready registry={registry} management={management}");
    let _ = out.flush();
}

/// From now on a write beyond RLIMIT_FSIZE fails, and does not end the process: whoever wrote says so, and goes on.
pub fn outlive_file_limits() -> std::io::Result<()> {
    // Who heeds it does not matter; that somebody does keeps it from ending the process.
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// What a process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    fn heed() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_told_to_stop(
    app: &Arc<App>,
    certificate: Option<&Certificate>,
    config_file: &Path,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let mut renewal = tokio::time::interval(Duration::from_secs(12 * 3600));
    renewal.tick().await;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => reload(app, certificate, config_file),
            // A self-signed certificate is made anew before it ends; a given one may have been replaced.
            _ = renewal.tick() => reload_certificate(app, &app.settings.load().config, certificate),
        }
    }
}

/// A configuration with any error in it changes nothing.
fn reload(app: &Arc<App>, certificate: Option<&Certificate>, config_file: &Path) {
    let fresh = match config::load(config_file) {
        Ok(fresh) => fresh,
        Err(errors) => {
            for error in errors {
                tracing::error!(%error, "reload refused");
            }
            return;
        }
    };
    let (fresh, kept) = config::take_over(&app.settings.load().config, fresh);
    for key in kept {
        tracing::warn!(key, "this key changes at the next start only");
    }
    reload_certificate(app, &fresh, certificate);
    app.settings.store(Arc::new(Settings::new(fresh)));
    tracing::info!("configuration reloaded");
}

fn reload_certificate(app: &App, config: &Config, certificate: Option<&Certificate>) {
    if let Some(certificate) = certificate
        && let Err(error) = certificate.reload(config)
    {
        tracing::error!(error = format!("{error:#}"), "the certificate stays as it was");
    }
    note_end(app, certificate);
}

/// When the certificate ends is for whoever watches.
fn note_end(app: &App, certificate: Option<&Certificate>) {
    if let Some(ends) = certificate.and_then(Certificate::ends) {
        app.telemetry.certificate_ends.set(ends);
    }
}
