//! What a faulty upstream answers, right or wrong.

use std::time::Duration;

/// What to answer.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) claim: Option<usize>,
    pub(super) framing: Framing,
    pub(super) delay: Duration,
    pub(super) end: End,
}

/// How the answer's body tells where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By a length in the head.
    Length,
    /// By a last chunk.
    Chunked,
    /// By the connection's end.
    Close,
}

/// How the answer ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// In order.
    Whole,
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// So many bytes of the body, and then silence until the peer gives up.
    StallAfter(usize),
    /// Nothing at all, until the peer gives up.
    Silent,
    /// The connection is closed without a byte.
    Dropped,
}

impl Answer {
    /// An answer with this status, no headers and no body.
    pub fn status(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            claim: None,
            framing: Framing::Length,
            delay: Duration::ZERO,
            end: End::Whole,
        }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body, whose length is told.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }

    /// With another length told than the body has.
    pub fn claiming(mut self, length: usize) -> Answer {
        self.claim = Some(length);
        self
    }

    /// Its body in chunks, without a length.
    pub fn chunked(mut self) -> Answer {
        self.framing = Framing::Chunked;
        self
    }

    /// Its body without a length, until the connection is closed.
    pub fn to_close(mut self) -> Answer {
        self.framing = Framing::Close;
        self
    }

    /// Only after a while.
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    /// The connection is closed after so many bytes of the body.
    pub fn cut_after(mut self, bytes: usize) -> Answer {
        self.end = End::CutAfter(bytes);
        self
    }

    /// So many bytes of the body, and then silence for as long as the peer waits.
    pub fn stall_after(mut self, bytes: usize) -> Answer {
        self.end = End::StallAfter(bytes);
        self
    }

    /// No answer for as long as the peer waits.
    pub fn silence() -> Answer {
        Answer { end: End::Silent, ..Answer::status(0) }
    }

    /// The connection is closed without a byte.
    pub fn hang_up() -> Answer {
        Answer { end: End::Dropped, ..Answer::status(0) }
    }
}
