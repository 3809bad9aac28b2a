//! Request bodies on their way to the upstream. A body that fails here makes the upstream's connection fail too, so that a
//! client's abort never looks like a proper end.

use crate::body::BodyError;
use crate::limits::Tab;
use crate::quota::Counted;
use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

/// What is sent.
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// Bytes that are all here.
    Full(Bytes),
    /// What a client is sending.
    Client(ClientBody),
    /// The same, as far as there is room for it.
    Counted(Counted),
}

impl RequestBody {
    /// The same body once more, where that is possible.
    pub fn copy(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Client(_) | Self::Counted(_) => None,
        }
    }

    /// The client's body behind it; none for a body that is all here.
    pub fn inbound(&self) -> Option<Arc<Inbound>> {
        match self {
            Self::Client(body) => Some(Arc::clone(&body.inbound)),
            Self::Counted(body) => Some(Arc::clone(body.inbound())),
            Self::Empty | Self::Full(_) => None,
        }
    }
}

/// A client's body: where it is, how far it has got, and how it ended.
pub struct Inbound {
    is_h2: bool,
    incoming: Mutex<Option<Incoming>>,
    bytes: AtomicU64,
    ended: AtomicBool,
    end: Notify,
    failure: Mutex<Option<&'static str>>,
    tab: OnceLock<Arc<Tab>>,
}

impl Inbound {
    /// A body that a client is sending; none where it sends none.
    pub fn new(incoming: Incoming, version: Version) -> Option<Arc<Self>> {
        (!incoming.is_end_stream()).then(|| {
            Arc::new(Self {
                is_h2: version == Version::HTTP_2,
                incoming: Mutex::new(Some(incoming)),
                bytes: AtomicU64::new(0),
                ended: AtomicBool::new(false),
                end: Notify::new(),
                failure: Mutex::new(None),
                tab: OnceLock::new(),
            })
        })
    }

    /// The body as something that can be sent on; silence longer than `idle` fails it.
    pub fn stream(self: &Arc<Self>, idle: Duration) -> ClientBody {
        ClientBody { inbound: Arc::clone(self), idle, silence: None }
    }

    /// Takes back what has not been read, so that it can be thrown away while the client reads its answer. Whoever is
    /// still sending it on fails.
    pub fn take_back(&self) -> Option<Incoming> {
        self.slot().take().filter(|_| !self.is_complete())
    }

    /// Charges its bytes there from now on.
    pub fn charge_to(&self, tab: &Arc<Tab>) {
        let _ = self.tab.set(Arc::clone(tab));
    }

    /// Bytes that have passed.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the body has ended properly.
    pub fn is_complete(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why the client's side failed, if it did.
    pub fn failure(&self) -> Option<&'static str> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the upstream lets a deadline pass, and says which: it takes no more bytes, or it does not answer after
    /// the last.
    pub async fn overdue(&self, first_byte: Duration, idle: Duration) -> &'static str {
        loop {
            let before = self.bytes();
            let end = self.end.notified();
            if self.is_complete() {
                sleep(first_byte).await;
                return "the first byte";
            }
            if timeout(idle, end).await.is_err() && self.bytes() == before && !self.is_complete() {
                return "taking the body's bytes";
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.end.notify_one();
        }
    }

    fn fail(&self, failure: &'static str) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// A client's body as it is sent on: counted, watched for silence, its trailers dropped.
pub struct ClientBody {
    inbound: Arc<Inbound>,
    idle: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl ClientBody {
    /// The body as it comes.
    pub fn inbound(&self) -> &Arc<Inbound> {
        &self.inbound
    }

    /// The next bytes.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut slot = self.inbound.slot();
        let Some(incoming) = slot.as_mut() else {
            return Poll::Ready(Some(Err("the body was taken back".into())));
        };
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.silence = None;
                    // Trailers stay behind: nothing downstream of us was told of them.
                    if let Ok(data) = frame.into_data() {
                        self.inbound.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                        if let Some(tab) = self.inbound.tab.get() {
                            tab.add(data.len());
                        }
                        if incoming.is_end_stream() {
                            self.inbound.complete();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.inbound.fail("it ended early");
                    return Poll::Ready(Some(Err(error.into())));
                }
                // HTTP/2's RST_STREAM(NO_ERROR) ends the stream as well, and hyper tells it as an end like any other.
                Poll::Ready(None) if self.inbound.is_h2 && !incoming.is_end_stream() => {
                    self.inbound.fail("it ended early");
                    return Poll::Ready(Some(Err("the client gave the body up".into())));
                }
                Poll::Ready(None) => {
                    self.inbound.complete();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let idle = self.idle;
                    let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(idle)));
                    ready!(silence.as_mut().poll(cx));
                    self.inbound.fail("it stalled");
                    return Poll::Ready(Some(Err("the client sent nothing for too long".into())));
                }
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Client(body) => body.poll_data(cx),
            Self::Counted(body) => body.poll_data(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Client(body) => body.inbound.is_complete(),
            // Its last bytes may still wait for room.
            Self::Counted(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Client(body) => body.inbound.slot().as_ref().map(Body::size_hint).unwrap_or_default(),
            Self::Counted(_) => SizeHint::default(),
        }
    }
}
