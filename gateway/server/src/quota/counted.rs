//! A client's body of unknown length: what there is no room for does not pass.

use super::Hold;
use crate::body::BodyError;
use crate::upstream::{ClientBody, Inbound};
use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The body, and the room for it.
pub struct Counted {
    body: ClientBody,
    hold: Arc<Hold>,
    /// Bytes that there is no room for yet.
    waiting: Option<Bytes>,
    growing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// All room that there is has been had: it is asked for again only when somebody waits.
    is_full: bool,
}

impl Counted {
    /// Nothing of it has passed.
    pub fn new(body: ClientBody, hold: Arc<Hold>) -> Self {
        Self { body, hold, waiting: None, growing: None, is_full: false }
    }

    /// The client's body behind it.
    pub fn inbound(&self) -> &Arc<Inbound> {
        self.body.inbound()
    }

    /// The next bytes that there is room for.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(growing) = &mut self.growing {
                if growing.as_mut().poll(cx).is_ready() {
                    self.growing = None;
                    self.is_full = self.hold.runs_low();
                } else if self.waiting.is_some() {
                    return Poll::Pending;
                }
            }
            if let Some(bytes) = self.waiting.take() {
                let count = bytes.len() as u64;
                if self.hold.pass(count) {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                if self.hold.is_short() || self.hold.has_failed() {
                    return Poll::Ready(Some(Err("there is no room for it".into())));
                }
                self.waiting = Some(bytes);
                self.grow(count);
                continue;
            }
            if self.growing.is_none() && !self.is_full && self.hold.runs_low() {
                self.grow(0);
                continue;
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.waiting = Some(data),
                    Err(_) => continue,
                },
                other => return Poll::Ready(other),
            }
        }
    }

    fn grow(&mut self, bytes: u64) {
        if self.growing.is_none() {
            let hold = Arc::clone(&self.hold);
            self.growing = Some(Box::pin(async move { hold.grow(bytes).await }));
        }
    }
}
