//! An upstream's answer on its way to the client: watched for silence, hashed where it is addressed by digest, and its
//! connection given back once everything was read.

use super::UpstreamError;
use super::pool::Lease;
use super::request_body::Inbound;
use crate::body::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_oci::digest::Verifier;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The body of an upstream's answer.
pub struct Relay {
    incoming: Incoming,
    lease: Option<Lease>,
    /// The request's body: where it was not sent to its end the connection is not used again.
    request: Option<Arc<Inbound>>,
    verifier: Option<Verifier>,
    idle: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Relay {
    /// The body of an answer that came over this lease.
    pub fn new(incoming: Incoming, lease: Lease, request: Option<Arc<Inbound>>, idle: Duration, is_head: bool) -> Self {
        let mut relay =
            Self { incoming, lease: Some(lease), request, verifier: None, idle, silence: None, ended: false };
        if is_head || relay.incoming.is_end_stream() {
            relay.finish();
        }
        relay
    }

    /// Hashes the bytes on their way. The last ones are held back until the hash is known, so that wrong bytes never end well.
    pub fn verified(mut self, verifier: Option<Verifier>) -> Result<Self, UpstreamError> {
        self.verifier = verifier;
        if self.ended {
            self.check().map_err(|error| UpstreamError::Odd(error.to_string()))?;
        }
        Ok(self)
    }

    fn finish(&mut self) {
        self.ended = true;
        if let Some(lease) = self.lease.take()
            && self.request.as_ref().is_none_or(|request| request.is_complete())
        {
            lease.give_back();
        }
    }

    /// All bytes were read: were they the digest's?
    fn check(&mut self) -> Result<(), BodyError> {
        if self.verifier.take().is_none_or(Verifier::matches) {
            return Ok(());
        }
        Err("the upstream's bytes do not have the digest that was asked for".into())
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let idle = self.idle;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(silence.as_mut().poll(cx));
        self.ended = true;
        self.lease = None;
        Poll::Ready(Some(Err("the upstream sent nothing for too long".into())))
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        while !this.ended {
            let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
                Poll::Pending => return this.poll_silence(cx),
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    this.lease = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    this.finish();
                    return Poll::Ready(this.check().err().map(Err));
                }
            };
            this.silence = None;
            let Ok(data) = frame.into_data() else { continue };
            if let Some(verifier) = &mut this.verifier {
                verifier.update(&data);
            }
            if this.incoming.is_end_stream() {
                this.finish();
                if let Err(error) = this.check() {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.incoming.size_hint() }
    }
}
