//! A body that is sent piece by piece while its request is under way.

use bytes::Bytes;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Sends a body piece by piece, for as long as the test likes. Dropped, the body ends in order.
pub struct Pieces(UnboundedSender<std::io::Result<Frame<Bytes>>>);

/// What [`Pieces`] sends, for [`Request::stream`]. It never knows its length.
pub struct Streamed(UnboundedReceiver<std::io::Result<Frame<Bytes>>>);

/// A body that the test sends while the request is under way.
pub fn pieces() -> (Pieces, Streamed) {
    let (sender, receiver) = unbounded_channel();
    (Pieces(sender), Streamed(receiver))
}

impl Pieces {
    /// The next piece.
    pub fn send(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Ok(Frame::data(bytes.into())));
    }

    /// The client goes away in the middle of the body.
    pub fn break_off(self) {
        let _ = self.0.send(Err(std::io::Error::other("the test breaks off here")));
    }
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}
