//! Everything that is accepted: one acceptor on the control runtime, one current-thread runtime a core for connections.
//!
//! A new connection goes to the thread that has the fewest; from then on it stays there.
//!
//! What the parser refuses (no HTTP, a head beyond its limits) is answered by hyper alone, with 400, 414 or 431 and without
//! the registry's error body: it has no hook for that answer, and where a request cannot be read there is no client library
//! that would read the body. Nothing of it gets to the pipeline, so it is neither counted nor logged as a request; the
//! connection ends with it, which `debug` logs.

mod announced;
mod connection;
mod cork;
mod frames;
mod preface;
mod proxy;
mod requests;
mod turnstile;

pub use connection::Visitor;

use crate::app::{App, MAX_WRITES, Worker};
use crate::crowd::{Place, Refused};
use crate::upstream::Pool;
use anyhow::Context;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use turnstile::Turnstile;

/// The connections that the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 1024;
/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    hand_over: mpsc::UnboundedSender<Accepted>,
}

/// A connection that was accepted.
struct Accepted {
    stream: std::net::TcpStream,
    /// The other end.
    peer: IpAddr,
    /// Its place among those of its address; none where it may come from whom a balancer speaks for.
    place: Option<Place>,
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
                turnstile: Turnstile::new(),
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
        let settings = app.settings.load();
        let limits = &settings.config.limits;
        if open >= limits.connections {
            return app.crowd.metrics.refused(Refused::Limit);
        }
        let peer = peer.ip().to_canonical();
        let place = if settings.config.server.balancer.speaks(peer) {
            None
        } else {
            let Some(place) = app.crowd.at(peer).connection(limits.connections_per_address) else {
                return app.crowd.metrics.refused(Refused::Address);
            };
            Some(place)
        };
        let lane = self.lanes.iter().min_by_key(|lane| lane.connections.load(Ordering::Relaxed));
        let (Some(lane), Ok(stream)) = (lane, stream.into_std()) else { return };
        lane.connections.fetch_add(1, Ordering::Relaxed);
        if lane.hand_over.send(Accepted { stream, peer, place }).is_err() {
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
    turnstile: Turnstile,
    connections: Arc<AtomicUsize>,
    phase: watch::Receiver<Phase>,
}

impl DataThread {
    async fn run(self, mut incoming: mpsc::UnboundedReceiver<Accepted>) {
        let lane = Arc::new(self);
        let turning = Arc::clone(&lane);
        tokio::spawn(async move { turning.turnstile.turn().await });
        let mut open = JoinSet::new();
        let mut tidy = tokio::time::interval(Duration::from_secs(5));
        let mut punctual = tokio::time::interval(PUNCTUAL);
        punctual.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut phase = lane.phase.clone();
        loop {
            tokio::select! {
                handed = incoming.recv() => match handed {
                    Some(accepted) => {
                        let lane = Arc::clone(&lane);
                        open.spawn(async move { lane.connection(accepted).await });
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
}
