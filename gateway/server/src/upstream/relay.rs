//! An upstream's answer on its way to the client: watched for silence on both sides, hashed where it is addressed by digest,
//! and its connection given back once everything was read.

use super::patience::Patience;
use super::pool::Lease;
use super::request_body::Inbound;
use super::{Timeouts, UpstreamError};
use crate::body::{self, BodyError};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_oci::digest::Verifier;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How often it is looked at least whether a client reads.
const SHORTEST_LOOK: Duration = Duration::from_millis(500);

/// The body of an upstream's answer.
pub struct Relay {
    source: Arc<Mutex<Source>>,
    verifier: Option<Verifier>,
    timeouts: Timeouts,
    silence: Option<Pin<Box<Sleep>>>,
    is_watched: bool,
    ended: bool,
}

/// Where the bytes come from. It is taken away from a client that does not read.
struct Source {
    /// None once it was taken away.
    incoming: Option<Incoming>,
    lease: Option<Lease>,
    /// The request's body: where it was not sent to its end the connection is not used again.
    request: Option<Arc<Inbound>>,
    /// When the client was given bytes last; none while it waits for them.
    given: Option<Instant>,
    /// What is left of the patience with the client.
    patience: Patience,
    /// Dropped when all was read, or is taken away.
    held: Option<Box<dyn Send>>,
}

impl Relay {
    /// The body of an answer that came over this lease.
    pub fn new(
        incoming: Incoming,
        lease: Lease,
        request: Option<Arc<Inbound>>,
        timeouts: Timeouts,
        is_head: bool,
    ) -> Self {
        let ended = is_head || incoming.is_end_stream();
        let patience = Patience::new(timeouts.unread, timeouts.slowest);
        let mut source =
            Source { incoming: Some(incoming), lease: Some(lease), request, given: None, patience, held: None };
        if ended {
            source.give_back();
        }
        let source = Arc::new(Mutex::new(source));
        Self { source, verifier: None, timeouts, silence: None, is_watched: false, ended }
    }

    /// Hashes the bytes on their way. The last ones are held back until the hash is known, so that wrong bytes never end well.
    pub fn verified(mut self, verifier: Option<Verifier>) -> Result<Self, UpstreamError> {
        self.verifier = verifier;
        if self.ended {
            self.check().map_err(|error| UpstreamError::Odd(error.to_string()))?;
        }
        Ok(self)
    }

    /// Drops `held`, and what was held before, when all was read, or the client has lost its connection to the upstream.
    pub fn hold(&mut self, held: Box<dyn Send>) {
        let mut source = locked(&self.source);
        source.held = Some(body::and(source.held.take(), held));
    }

    /// All bytes were read: were they the digest's?
    fn check(&mut self) -> Result<(), BodyError> {
        if self.verifier.take().is_none_or(Verifier::matches) {
            return Ok(());
        }
        Err("the upstream's bytes do not have the digest that was asked for".into())
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let idle = self.timeouts.idle;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready("the upstream sent nothing for too long".into())
    }

    /// The next bytes, and whether they are the last.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, bool), BodyError>> {
        let shared = Arc::clone(&self.source);
        let mut source = locked(&shared);
        if let Some(given) = source.given.take() {
            source.patience.waited(given.elapsed());
        }
        loop {
            let Some(incoming) = &mut source.incoming else {
                return Poll::Ready(Err("the client read nothing, or too little, for too long".into()));
            };
            let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
                return self.poll_silence(cx).map(Err);
            };
            self.silence = None;
            let (data, is_last) = match frame {
                None => (Bytes::new(), true),
                Some(frame) => match frame?.into_data() {
                    Ok(data) => (data, incoming.is_end_stream()),
                    // Trailers stay behind.
                    Err(_) => continue,
                },
            };
            if is_last {
                source.give_back();
            } else {
                source.given = Some(Instant::now());
                source.patience.came(data.len());
            }
            return Poll::Ready(Ok((data, is_last)));
        }
    }

    /// Most answers come in one piece, and are never watched.
    fn watch(&mut self) {
        if !std::mem::replace(&mut self.is_watched, true) {
            tokio::spawn(take_from_slow(Arc::downgrade(&self.source)));
        }
    }
}

impl Source {
    fn let_go(&mut self) {
        self.lease = None;
        self.held = None;
    }

    fn give_back(&mut self) {
        self.held = None;
        if let Some(lease) = self.lease.take()
            && self.request.as_ref().is_none_or(|request| request.is_complete())
        {
            lease.give_back();
        }
    }
}

/// Ends when the relay is over, or takes its connection away where the client has read nothing, or too little, for too long.
async fn take_from_slow(source: Weak<Mutex<Source>>) {
    let mut wait = match source.upgrade() {
        Some(source) => locked(&source).patience.left(),
        None => return,
    };
    loop {
        // While the client waits for the upstream nothing of the patience goes, however little there is.
        sleep(wait.max(SHORTEST_LOOK)).await;
        let Some(source) = source.upgrade() else { return };
        let mut source = locked(&source);
        if source.lease.is_none() {
            return;
        }
        let unread = source.given.map_or(Duration::ZERO, |given| given.elapsed());
        wait = source.patience.left().saturating_sub(unread);
        if wait.is_zero() {
            source.incoming = None;
            source.lease = None;
            source.held = None;
            return;
        }
    }
}

fn locked(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The watch may hold the other end of the `Arc` at this moment.
        locked(&self.source).let_go();
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let (data, is_last) = match ready!(this.poll_bytes(cx)) {
            Ok(given) => given,
            Err(error) => {
                this.ended = true;
                locked(&this.source).let_go();
                return Poll::Ready(Some(Err(error)));
            }
        };
        if let Some(verifier) = &mut this.verifier {
            verifier.update(&data);
        }
        if is_last {
            this.ended = true;
            if let Err(error) = this.check() {
                return Poll::Ready(Some(Err(error)));
            }
        } else {
            this.watch();
        }
        Poll::Ready((!data.is_empty() || !is_last).then_some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            return SizeHint::with_exact(0);
        }
        locked(&self.source).incoming.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
