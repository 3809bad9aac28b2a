//! Everything that is accepted: one acceptor on the control runtime, one current-thread runtime a core for connections.
//!
//! A new connection goes to the thread that has the fewest; from then on it stays there.
//!
//! What the parser refuses (no HTTP, a head beyond its limits) is answered by hyper alone, with 400, 414 or 431 and without
//! the registry's error body: it has no hook for that answer, and where a request cannot be read there is no client library
//! that would read the body. Nothing of it gets to the pipeline, so it is neither counted nor logged as a request; the
//! connection ends with it, which `debug` logs.

mod cork;

use crate::app::{App, MAX_WRITES, Worker};
use crate::config::Limits;
use crate::pipeline;
use crate::upstream::Pool;
use anyhow::Context;
use cork::Cork;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// The connections that the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 1024;
/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection without a request for so long is closed, at most twice as late.
const QUIET: Duration = Duration::from_secs(120);

/// How often it is looked at whether a data thread comes in time.
const PUNCTUAL: Duration = Duration::from_millis(500);

/// What data threads do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serve.
    Serving,
    /// Finish what is under way, take nothing new.
    Draining,
}

/// Ends when draining begins.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
}

/// One data thread, as the acceptor sees it.
struct Lane {
    connections: Arc<AtomicUsize>,
    hand_over: mpsc::UnboundedSender<(std::net::TcpStream, SocketAddr)>,
}

/// The data threads.
pub struct Lanes {
    lanes: Vec<Lane>,
    threads: Vec<JoinHandle<()>>,
}

/// Opens the listening sockets.
pub fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    addresses
        .iter()
        .map(|address| bind_one(*address).with_context(|| format!("server.listen: cannot listen on {address}")))
        .collect()
}

fn bind_one(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

impl Lanes {
    /// Starts the data threads.
    pub fn start(
        app: &Arc<App>,
        tls: Option<Arc<ServerConfig>>,
        phase: &watch::Receiver<Phase>,
    ) -> anyhow::Result<Self> {
        let configured = app.settings.load().config.server.worker_threads;
        let count = if configured == 0 { std::thread::available_parallelism()?.get() } else { configured };
        let mut lanes = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (hand_over, incoming) = mpsc::unbounded_channel();
            let connections = Arc::new(AtomicUsize::new(0));
            let lane = DataThread {
                worker: Arc::new(Worker {
                    app: Arc::clone(app),
                    pool: Arc::new(Pool::default()),
                    clock: app.telemetry.clock(),
                    writes: Arc::new(Semaphore::new(MAX_WRITES as usize)),
                }),
                tls: tls.clone().map(TlsAcceptor::from),
                connections: Arc::clone(&connections),
                phase: phase.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(move || runtime.block_on(lane.run(incoming)))?;
            lanes.push(Lane { connections, hand_over });
            threads.push(thread);
        }
        Ok(Self { lanes, threads })
    }

    /// Accepts on one socket until draining begins.
    pub async fn accept(self: Arc<Self>, app: Arc<App>, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = draining(&mut phase) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.place(&app, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn place(&self, app: &App, stream: TcpStream, peer: SocketAddr) {
        let open: usize = self.lanes.iter().map(|lane| lane.connections.load(Ordering::Relaxed)).sum();
        if open >= app.settings.load().config.limits.connections {
            app.telemetry.connections_refused.inc();
            return;
        }
        let lane = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let (Some(lane), Ok(stream)) = (lane, stream.into_std()) else { return };
        lane.connections.fetch_add(1, Ordering::Relaxed);
        if lane.hand_over.send((stream, peer)).is_err() {
            lane.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits until every data thread has ended; they end when draining is over.
    pub fn join(self) {
        drop(self.lanes);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// One data thread.
struct DataThread {
    worker: Arc<Worker>,
    tls: Option<TlsAcceptor>,
    connections: Arc<AtomicUsize>,
    phase: watch::Receiver<Phase>,
}

impl DataThread {
    async fn run(self, mut incoming: mpsc::UnboundedReceiver<(std::net::TcpStream, SocketAddr)>) {
        let lane = Arc::new(self);
        let mut open = JoinSet::new();
        let mut tidy = tokio::time::interval(Duration::from_secs(5));
        let mut punctual = tokio::time::interval(PUNCTUAL);
        punctual.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut phase = lane.phase.clone();
        loop {
            tokio::select! {
                handed = incoming.recv() => match handed {
                    Some((stream, peer)) => {
                        let lane = Arc::clone(&lane);
                        open.spawn(async move { lane.connection(stream, peer).await });
                    }
                    None => break,
                },
                Some(_) = open.join_next() => {}
                due = punctual.tick() => lane.worker.app.telemetry.lag.observe(due.elapsed().as_secs_f64()),
                _ = tidy.tick() => lane.worker.app.upstream.close_unused(&lane.worker.pool),
                () = draining(&mut phase) => break,
            }
        }
        let limit = lane.worker.app.settings.load().config.server.drain_timeout;
        // A write goes on though its client has gone, and is waited for all the same.
        let finish = async {
            while open.join_next().await.is_some() {}
            let _ = lane.worker.writes.acquire_many(MAX_WRITES).await;
        };
        if timeout(limit, finish).await.is_err() {
            tracing::warn!(
                connections = open.len(),
                "connections cut off: they did not finish in server.drain_timeout_s"
            );
        }
    }

    async fn connection(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        let _open = OpenConnection::count(self);
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let _ = stream.set_nodelay(true);
        let peer = peer.ip().to_canonical();
        let limit = self.worker.app.settings.load().config.limits.head_timeout;
        match &self.tls {
            None => self.serve(stream, peer, None).await,
            Some(tls) => match timeout(limit, self.unless_draining(tls.accept(stream))).await {
                Ok(Some(Ok(stream))) => {
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        self.serve(Cork::new(stream), peer, Some(true)).await;
                    } else {
                        self.serve(stream, peer, Some(false)).await;
                    }
                }
                Ok(Some(Err(error))) => tracing::debug!(client.address = %peer, %error, "handshake failed"),
                Ok(None) | Err(_) => tracing::debug!(client.address = %peer, "no handshake was made"),
            },
        }
    }

    /// A handshake is no request under way: a drain ends it.
    async fn unless_draining<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let mut phase = self.phase.clone();
        tokio::select! {
            done = handshake => Some(done),
            () = draining(&mut phase) => None,
        }
    }

    /// Serves requests on one connection. What the client speaks is known by ALPN, or seen from its first bytes.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        peer: IpAddr,
        is_h2: Option<bool>,
    ) {
        let settings = self.worker.app.settings.load_full();
        let head_timeout = settings.config.limits.head_timeout;
        let builder = builder(&settings.config.limits, is_h2);
        let worker = &self.worker;
        let requests = Arc::new(Requests::default());
        let service = service_fn(|request| {
            let under_way = requests.begin();
            // It has some kilobytes, and hyper moves what it is given several times.
            let answer = Box::pin(pipeline::serve(Arc::clone(worker), peer, request));
            async move { answer.await.map(|response| response.map(|body| body.until_end(Box::new(under_way)))) }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut phase = self.phase.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining(&mut phase) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = requests.silence(head_timeout) => {
                connection.as_mut().graceful_shutdown();
                // What came in that very moment is finished first.
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = requests.silence(head_timeout) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(client.address = %peer, error, "connection ended");
        }
    }
}

/// One connection's requests, so that one without any is noticed: neither HTTP/2 nor the look at its first bytes has a
/// deadline of its own.
#[derive(Default)]
struct Requests {
    begun: AtomicUsize,
    under_way: AtomicUsize,
}

/// One request, until its answer's body has ended.
struct UnderWay(Arc<Requests>);

impl Requests {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Ends when no request has come within the time for a first one, or for a while after the last.
    async fn silence(&self, first: Duration) {
        let mut seen = 0;
        sleep(first).await;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == seen && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = begun;
            sleep(QUIET).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One open connection, counted as long as this lives.
struct OpenConnection<'a>(&'a DataThread);

impl<'a> OpenConnection<'a> {
    fn count(lane: &'a DataThread) -> Self {
        lane.worker.app.telemetry.connections.inc();
        Self(lane)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.worker.app.telemetry.connections.dec();
    }
}

/// HTTP's limits. Windows are wide enough that a large upload over HTTP/2 is not throttled by round trips.
fn builder(limits: &Limits, is_h2: Option<bool>) -> auto::Builder<TokioExecutor> {
    const STREAM_WINDOW: u32 = 1024 * 1024;
    const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
    const SEND_BUFFER: usize = 1024 * 1024;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Never `pipeline_flush`: hyper then buffers a body without limit for a client that does not read.
    // Heads beyond our own limit are refused in the registry's form; those beyond twice that by the parser.
    let parser_limit = limits.header_bytes.saturating_mul(2);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(parser_limit.max(256 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(parser_limit).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    match is_h2 {
        Some(true) => builder.http2_only(),
        Some(false) => builder.http1_only(),
        None => builder,
    }
}
