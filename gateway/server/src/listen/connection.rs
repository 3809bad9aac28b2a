//! One connection, from its first byte to its last: who is at its other end, its handshake, its requests.

use super::announced::announced;
use super::cork::Cork;
use super::frames::Frames;
use super::preface;
use super::proxy::Source;
use super::requests::Requests;
use super::{Accepted, DataThread, draining};
use crate::app::Settings;
use crate::config::Limits;
use crate::crowd::{Address, Place, Refused, Shed};
use crate::forwarded;
use crate::pipeline;
use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::io::Cursor;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Who sent a request.
pub struct Visitor {
    /// The client, as whom we believe says.
    pub client: IpAddr,
    /// Who handed it to us: the client, or the last proxy before us.
    pub hop: IpAddr,
    /// Why it is not even looked at, where it is not.
    pub shed: Option<Shed>,
    /// Its address's place, which is kept by whatever goes on for it when the client has gone.
    pub place: Option<Arc<Place>>,
}

/// Who is at a connection's other end, as far as the connection itself tells.
struct Guest {
    address: IpAddr,
    crowd: Address,
    _place: Option<Place>,
}

impl DataThread {
    /// Serves one connection.
    pub(super) async fn connection(&self, accepted: Accepted) {
        let _open = OpenConnection::count(self);
        let Ok(mut stream) = TcpStream::from_std(accepted.stream) else { return };
        let _ = stream.set_nodelay(true);
        let settings = self.worker.app.settings.load_full();
        let guest = match self.meet(&mut stream, &settings, accepted.peer, accepted.place).await {
            Ok(guest) => guest,
            Err(why) => return self.worker.app.crowd.metrics.refused(why),
        };
        match &self.tls {
            None => self.in_clear(stream, &settings, &guest).await,
            Some(tls) => self.shake_hands(tls, stream, &settings, &guest).await,
        }
    }

    /// Learns who it is. Only a listed balancer is asked, and it has to answer.
    async fn meet(
        &self,
        stream: &mut TcpStream,
        settings: &Settings,
        peer: IpAddr,
        place: Option<Place>,
    ) -> Result<Guest, Refused> {
        let (balancer, limits) = (&settings.config.server.balancer, &settings.config.limits);
        let address = if balancer.announces(peer) {
            let header = self.unless_draining(announced(stream));
            match timeout(limits.head_timeout, header).await {
                Ok(Some(Ok(Source::Client(client)))) => client,
                Ok(Some(Ok(Source::Itself))) => peer,
                Ok(Some(Err(error))) => {
                    tracing::debug!(client.address = %peer, %error, "no connection without a PROXY header");
                    return Err(Refused::ProxyHeader);
                }
                Ok(None) | Err(_) => return Err(Refused::ProxyHeader),
            }
        } else {
            peer
        };
        let crowd = self.worker.app.crowd.at(address);
        // A proxy that carries many clients' requests has as many connections as it likes; its clients have their shares.
        let place = match place {
            None if balancer.forwards(address) => None,
            None => Some(crowd.connection(limits.connections_per_address).ok_or(Refused::Address)?),
            place => place,
        };
        Ok(Guest { address, crowd, _place: place })
    }

    async fn shake_hands(&self, tls: &TlsAcceptor, stream: TcpStream, settings: &Settings, guest: &Guest) {
        let (balancer, limits) = (&settings.config.server.balancer, &settings.config.limits);
        // Many clients of a proxy that forwards share its handshakes.
        let most = if balancer.forwards(guest.address) { usize::MAX } else { limits.handshakes_per_address };
        let Some(place) = guest.crowd.handshake(most) else {
            return self.worker.app.crowd.metrics.refused(Refused::Handshakes);
        };
        let handshake = self.unless_draining(self.turnstile.pass(tls.accept(stream)));
        let made = timeout(limits.head_timeout, handshake).await;
        drop(place);
        match made {
            Ok(Some(Ok(stream))) => {
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.speak(stream, settings, guest, is_h2).await;
            }
            Ok(Some(Err(error))) => tracing::debug!(client.address = %guest.address, %error, "handshake failed"),
            Ok(None) | Err(_) => tracing::debug!(client.address = %guest.address, "no handshake was made"),
        }
    }

    /// Without TLS the first bytes tell what the client speaks.
    async fn in_clear(&self, stream: TcpStream, settings: &Settings, guest: &Guest) {
        let (mut reader, writer) = stream.into_split();
        let opening = self.unless_draining(preface::look(&mut reader));
        match timeout(settings.config.limits.head_timeout, opening).await {
            Ok(Some(Ok((is_h2, seen)))) => {
                let stream = tokio::io::join(Cursor::new(seen).chain(reader), writer);
                self.speak(stream, settings, guest, is_h2).await;
            }
            Ok(Some(Err(error))) => tracing::debug!(client.address = %guest.address, %error, "connection ended"),
            Ok(None) | Err(_) => tracing::debug!(client.address = %guest.address, "no request was begun"),
        }
    }

    /// Serves requests, and watches what HTTP/2 brings beside them.
    async fn speak<S>(&self, stream: S, settings: &Settings, guest: &Guest, is_h2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if !is_h2 {
            return self.serve(stream, guest, is_h2).await;
        }
        let (balancer, limits) = (&settings.config.server.balancer, &settings.config.limits);
        // A proxy that forwards hands on the resets of all its clients; control frames are its own.
        let most = if balancer.forwards(guest.address) { u32::MAX } else { limits.resets_per_connection };
        let stream = Cork::new(stream, Frames::new(most));
        let excess = stream.excess();
        self.serve(stream, guest, is_h2).await;
        if let Some(excess) = excess.get() {
            self.worker.app.crowd.metrics.cut(excess.name());
        }
    }

    /// What comes before the first request is no request under way: a drain ends it.
    async fn unless_draining<T>(&self, opening: impl Future<Output = T>) -> Option<T> {
        let mut phase = self.phase.clone();
        tokio::select! {
            done = opening => Some(done),
            () = draining(&mut phase) => None,
        }
    }

    /// Serves requests on one connection.
    async fn serve<S>(&self, stream: S, guest: &Guest, is_h2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = self.worker.app.settings.load_full();
        let head_timeout = settings.config.limits.head_timeout;
        let builder = builder(&settings.config.limits, is_h2);
        let worker = &self.worker;
        let requests = Arc::new(Requests::default());
        let service = service_fn(|request| {
            let visitor = self.receive(guest, request.headers());
            let under_way = requests.begin(visitor.place.clone());
            // It has some kilobytes, and hyper moves what it is given several times.
            let answer = Box::pin(pipeline::serve(Arc::clone(worker), visitor, request));
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
            tracing::debug!(client.address = %guest.address, error, "connection ended");
        }
    }

    /// Whose request it is, and its place among those under way.
    fn receive(&self, guest: &Guest, headers: &HeaderMap) -> Visitor {
        let settings = self.worker.app.settings.load();
        let (balancer, limits) = (&settings.config.server.balancer, &settings.config.limits);
        let hop = guest.address;
        let client =
            balancer.forwarded.map_or(hop, |field| forwarded::client(field, headers, hop, &balancer.trusted_proxies));
        let room =
            |address: &Address| address.request(limits.requests_under_way, limits.requests_under_way_per_address);
        let place = if client == hop { room(&guest.crowd) } else { room(&self.worker.app.crowd.at(client)) };
        let (place, shed) = match place {
            Ok(place) => (Some(Arc::new(place)), None),
            Err(shed) => (None, Some(shed)),
        };
        Visitor { client, hop, shed, place }
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
fn builder(limits: &Limits, is_h2: bool) -> auto::Builder<TokioExecutor> {
    const STREAM_WINDOW: u32 = 1024 * 1024;
    const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
    const SEND_BUFFER: usize = 1024 * 1024;
    // Streams that are reset before they were taken up are kept until then: no more of them than h2's own default.
    const PENDING_RESETS: usize = 20;
    // Streams that a client's errors make us reset, over a connection's whole life.
    const ERROR_RESETS: usize = 256;
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
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_header_list_size(u32::try_from(parser_limit).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    if is_h2 { builder.http2_only() } else { builder.http1_only() }
}
