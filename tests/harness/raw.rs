//! Bytes on the wire that no well-behaved client would send.

use crate::http::Http;
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A connection, with TLS where the origin has it, that sends exactly the bytes that it is given.
pub struct Raw {
    wire: Wire,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// The head without its empty line.
    pub head: String,
    /// What the head's `Content-Length` promised, or as much of it as came.
    pub body: Vec<u8>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Raw {
    /// Connects; reads and writes fail after 30 seconds of silence.
    #[track_caller]
    pub fn connect(http: &Http) -> Raw {
        Raw::agreeing_on(http, &[])
    }

    /// The same, with HTTP/2 agreed on in the handshake.
    #[track_caller]
    pub fn connect_h2(http: &Http) -> Raw {
        Raw::agreeing_on(http, &[b"h2"])
    }

    #[track_caller]
    fn agreeing_on(http: &Http, protocols: &[&[u8]]) -> Raw {
        let stream = TcpStream::connect(http.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("not zero");
        stream.set_nodelay(true).expect("a TCP socket");
        let wire = match http.tls() {
            None => Wire::Plain(stream),
            Some(config) => {
                let mut config = rustls::ClientConfig::clone(config);
                config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
                let session = ClientConnection::new(std::sync::Arc::new(config), http.server_name())
                    .expect("the configuration is complete");
                Wire::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        };
        Raw { wire, read: Vec::new() }
    }

    /// Sends these bytes. A peer that has already gone away is no failure: its answer may still be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Raw {
        let wire = self.wire();
        let _ = wire.write_all(bytes.as_ref()).and_then(|()| wire.flush());
        self
    }

    /// Reads one answer. None where the peer closes without one, or says nothing for 30 seconds.
    pub fn answer(&mut self) -> Option<RawResponse> {
        self.answer_to(true)
    }

    /// Reads one answer to a HEAD request, which has no body whatever its head says.
    pub fn answer_to_head(&mut self) -> Option<RawResponse> {
        self.answer_to(false)
    }

    /// Reads until the peer closes, and says whether it closed in order: with TLS, after a close notification.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        loop {
            match self.fill() {
                Ok(0) => return (std::mem::take(&mut self.read), true),
                Ok(_) => {}
                Err(_) => return (std::mem::take(&mut self.read), false),
            }
        }
    }

    /// Closes without a word, in the middle of whatever is under way.
    pub fn drop_dead(self) {
        let socket = match &self.wire {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => tls.get_ref(),
        };
        let _ = socket.shutdown(Shutdown::Both);
    }

    fn answer_to(&mut self, has_body: bool) -> Option<RawResponse> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.fill().ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(self.read.get(..end)?).into_owned();
        self.read.drain(..end + 4);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = if has_body { content_length(&head) } else { 0 };
        while self.read.len() < length && self.fill().is_ok_and(|n| n > 0) {}
        let body = self.read.drain(..length.min(self.read.len())).collect();
        Some(RawResponse { status, head, body })
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.wire().read(&mut chunk) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(n) => {
                    self.read.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn wire(&mut self) -> &mut dyn ReadWrite {
        match &mut self.wire {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream,
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn content_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
