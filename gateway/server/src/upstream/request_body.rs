//! Request bodies on their way to the upstream. A body that fails here makes the upstream's connection fail too, so that a
//! client's abort never looks like a proper end.

use super::Timeouts;
use super::patience::Patience;
use crate::body::BodyError;
use crate::quota::Counted;
use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// A piece of a body that is smaller than this costs us more than its bytes.
const CRUMB: usize = 32;
/// How far pieces may fall short of that, all together, before larger ones make up for it: some two thousand of one byte.
const MOST_CRUMBS: usize = 64 * 1024;

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
    failure: Mutex<Option<BodyFault>>,
}

/// What a client has done to its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It went away.
    #[error("it ended early")]
    Early,
    /// Nothing came for too long.
    #[error("it stalled")]
    Stalled,
    /// It came more slowly than `limits.body_min_bytes_per_s`.
    #[error("it came too slowly")]
    Slow,
    /// It had its time, and was not whole.
    #[error("it took too long")]
    Late,
    /// Each piece has a few bytes.
    #[error("it came in pieces of a few bytes; send larger ones")]
    Crumbs,
}

impl BodyFault {
    /// Whether it is a matter of time.
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Stalled | Self::Slow | Self::Late)
    }
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
            })
        })
    }

    /// The body as something that can be sent on; silence, and a pace that is too slow, fail it.
    pub fn stream(self: &Arc<Self>, timeouts: Timeouts) -> ClientBody {
        ClientBody {
            inbound: Arc::clone(self),
            patience: Patience::new(timeouts.idle, timeouts.slowest),
            since: None,
            alarm: None,
            arrival: Arrival::at(Waker::noop()),
            crumbs: 0,
        }
    }

    /// Takes back what has not been read, so that it can be thrown away while the client reads its answer. Whoever is
    /// still sending it on fails.
    pub fn take_back(&self) -> Option<Incoming> {
        self.slot().take().filter(|_| !self.is_complete())
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
    pub fn failure(&self) -> Option<BodyFault> {
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

    fn fail(&self, failure: BodyFault) -> BodyError {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        format!("the client's body: {failure}").into()
    }
}

/// A client's body as it is sent on: counted, watched for silence, its trailers dropped.
pub struct ClientBody {
    inbound: Arc<Inbound>,
    patience: Patience,
    /// Since when the client is waited for, while it is: we were ready to take bytes, and there were none.
    since: Option<Instant>,
    /// When the patience is at its end.
    alarm: Option<Pin<Box<Sleep>>>,
    arrival: Arc<Arrival>,
    crumbs: usize,
}

/// When bytes came that were waited for: whoever takes them may be late himself, and that is not the client's fault.
struct Arrival {
    at: Mutex<Option<Instant>>,
    task: Waker,
}

impl Arrival {
    fn at(task: &Waker) -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(None), task: task.clone() })
    }

    fn take(&self) -> Option<Instant> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.task.wake_by_ref();
    }
}

impl ClientBody {
    /// The body as it comes.
    pub fn inbound(&self) -> &Arc<Inbound> {
        &self.inbound
    }

    /// The next bytes.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.arrival.task.will_wake(cx.waker()) {
            self.arrival = Arrival::at(cx.waker());
        }
        let came = self.arrival.take();
        let waker = Waker::from(Arc::clone(&self.arrival));
        match self.poll_incoming(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.poll_patience(cx),
            Poll::Ready(Some(Ok(data))) => {
                if let Some(since) = self.since.take() {
                    self.patience.waited(came.unwrap_or_else(Instant::now).saturating_duration_since(since));
                }
                self.patience.came(data.len());
                if self.has_crumbs(data.len()) {
                    return Poll::Ready(Some(Err(self.inbound.fail(BodyFault::Crumbs))));
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut slot = self.inbound.slot();
        let Some(incoming) = slot.as_mut() else {
            return Poll::Ready(Some(Err("the body was taken back".into())));
        };
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers stay behind: nothing downstream of us was told of them.
                    if let Ok(data) = frame.into_data() {
                        self.inbound.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                        if incoming.is_end_stream() {
                            self.inbound.complete();
                        }
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.inbound.fail(BodyFault::Early);
                    return Poll::Ready(Some(Err(error.into())));
                }
                // HTTP/2's RST_STREAM(NO_ERROR) ends the stream as well, and hyper tells it as an end like any other.
                Poll::Ready(None) if self.inbound.is_h2 && !incoming.is_end_stream() => {
                    return Poll::Ready(Some(Err(self.inbound.fail(BodyFault::Early))));
                }
                Poll::Ready(None) => {
                    self.inbound.complete();
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Nothing is there.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let is_new = self.since.is_none();
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since.checked_add(self.patience.left()).unwrap_or(since);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if is_new {
            alarm.as_mut().reset(end);
        }
        if alarm.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let fault = if self.patience.is_whole() { BodyFault::Stalled } else { BodyFault::Slow };
        Poll::Ready(Some(Err(self.inbound.fail(fault))))
    }

    /// Whether there were too many pieces of a few bytes, and this is one more.
    fn has_crumbs(&mut self, length: usize) -> bool {
        self.crumbs = self.crumbs.saturating_add(CRUMB.saturating_sub(length));
        self.crumbs = self.crumbs.saturating_sub(length.saturating_sub(CRUMB));
        self.crumbs > MOST_CRUMBS
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

#[cfg(test)]
mod tests;
