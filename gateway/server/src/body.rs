//! Response bodies: nothing, bytes of our own, or the upstream's stream; and the meter that notices their end.

use crate::pipeline::settle::Meter;
use crate::upstream::Relay;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a response ends abnormally with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response to a client.
pub struct Body {
    content: Content,
    meter: Option<Meter>,
    /// Dropped once the last piece is handed out: a client that does not take it must not keep a place for ever.
    held: Option<Box<dyn Send>>,
}

enum Content {
    Empty,
    Full(Bytes),
    Relay(Box<Relay>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self { content: Content::Empty, meter: None, held: None }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Full(bytes.into()), meter: None, held: None }
    }

    /// What the upstream sends.
    pub fn relay(relay: Relay) -> Self {
        Self { content: Content::Relay(Box::new(relay)), meter: None, held: None }
    }

    /// How many bytes of our own it has; none for what the upstream sends.
    pub fn own_length(&self) -> Option<usize> {
        match &self.content {
            Content::Full(bytes) => Some(bytes.len()),
            Content::Empty | Content::Relay(_) => None,
        }
    }

    /// Counts the bytes from here on, and settles when the body has ended or was given up.
    #[must_use]
    pub fn metered(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Drops `held`, and what was held before, when the last piece was handed out, or the body was given up or taken away from a
    /// client that does not read.
    #[must_use]
    pub fn until_end(mut self, held: Box<dyn Send>) -> Self {
        match &mut self.content {
            Content::Relay(relay) if !relay.is_end_stream() => relay.hold(held),
            Content::Full(bytes) if !bytes.is_empty() => self.held = Some(and(self.held.take(), held)),
            Content::Empty | Content::Full(_) | Content::Relay(_) => {}
        }
        self
    }
}

/// Both as one.
pub fn and(before: Option<Box<dyn Send>>, held: Box<dyn Send>) -> Box<dyn Send> {
    match before {
        Some(before) => Box::new((before, held)),
        None => held,
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(_) => {
                let Content::Full(bytes) = std::mem::replace(&mut this.content, Content::Empty) else {
                    return Poll::Ready(None);
                };
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::Relay(relay) => Pin::new(relay.as_mut()).poll_frame(cx),
        };
        if matches!(this.content, Content::Empty) {
            this.held = None;
        }
        if let Some(meter) = &mut this.meter {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => meter.sent(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(Some(Err(error))) => meter.failed(error.as_ref()),
                _ => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Relay(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relay(relay) => relay.size_hint(),
        }
    }
}
