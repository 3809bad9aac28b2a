//! Bytes on the wire that no well-behaved client would send.

use crate::http::{Http, block_on};
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use tokio::net::TcpSocket;

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

/// How a connection comes about.
#[derive(Clone, Debug, Default)]
pub struct Approach {
    /// The local address that it comes from; the kernel's choice where there is none.
    pub from: Option<IpAddr>,
    /// What is sent before anything else, TLS included: a header of the PROXY protocol.
    pub first: Vec<u8>,
    /// Whether HTTP/2 is agreed on in the handshake.
    pub h2: bool,
    /// How much the kernel takes in before it is read; the kernel's choice where there is none.
    pub window: Option<u32>,
}

/// A connection with TLS, for those who have many at once.
pub type TlsStream = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

impl Approach {
    /// From this local address.
    pub fn from(address: impl Into<IpAddr>) -> Approach {
        Approach { from: Some(address.into()), ..Approach::default() }
    }

    /// The same with these bytes before all others.
    #[must_use]
    pub fn saying(self, first: impl Into<Vec<u8>>) -> Approach {
        Approach { first: first.into(), ..self }
    }

    /// A connection to there, with nothing sent on it but what comes first. Says why there is none.
    pub async fn connect(&self, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        use tokio::io::AsyncWriteExt as _;
        let any = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = if to.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        if let Some(window) = self.window {
            socket.set_recv_buffer_size(window)?;
        }
        socket.bind(SocketAddr::new(self.from.unwrap_or(any), 0))?;
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        // A peer that has already gone away is seen by whoever reads.
        let _ = stream.write_all(&self.first).await;
        Ok(stream)
    }

    /// The same with TLS. The origin has to have it.
    pub async fn secure(&self, http: &Http) -> std::io::Result<TlsStream> {
        let mut config = rustls::ClientConfig::clone(http.tls().expect("it has TLS"));
        config.alpn_protocols = self.h2.then(|| b"h2".to_vec()).into_iter().collect();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        connector.connect(http.server_name(), self.connect(http.address()).await?).await
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Raw {
    /// Connects; reads and writes fail after 30 seconds of silence.
    #[track_caller]
    pub fn connect(http: &Http) -> Raw {
        Raw::approach(http, &Approach::default())
    }

    /// The same, with HTTP/2 agreed on in the handshake.
    #[track_caller]
    pub fn connect_h2(http: &Http) -> Raw {
        Raw::approach(http, &Approach { h2: true, ..Approach::default() })
    }

    /// The same, from where and how the test likes.
    #[track_caller]
    pub fn approach(http: &Http, approach: &Approach) -> Raw {
        let stream = block_on(approach.connect(http.address())).and_then(tokio::net::TcpStream::into_std);
        let stream = stream.unwrap_or_else(|e| panic!("{approach:?}: {e}"));
        stream.set_nonblocking(false).expect("a TCP socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("not zero");
        stream.set_write_timeout(Some(Duration::from_secs(30))).expect("not zero");
        Raw { wire: Wire::over(stream, http, approach.h2), read: Vec::new() }
    }

    /// Goes on with TLS where nothing but plain bytes was sent.
    #[track_caller]
    pub fn into_tls(self, http: &Http) -> Raw {
        match self.wire {
            Wire::Plain(stream) => Raw { wire: Wire::over(stream, http, false), read: Vec::new() },
            Wire::Tls(_) => panic!("it has TLS"),
        }
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

    /// Reads at most so many bytes, and throws them away with all that was read before.
    pub fn sip(&mut self, most: usize) {
        self.read.clear();
        let _ = self.wire().read(&mut vec![0; most]);
    }

    /// One record of TLS, as it came.
    pub fn record(&mut self) -> Option<Vec<u8>> {
        let mut record = self.take(5)?;
        record.extend(self.take(usize::from(u16::from_be_bytes([record[3], record[4]])))?);
        Some(record)
    }

    /// What was agreed on, once there was a handshake.
    pub fn tls_version(&self) -> Option<String> {
        match &self.wire {
            Wire::Plain(_) => None,
            Wire::Tls(tls) => tls.conn.protocol_version().map(|version| format!("{version:?}")),
        }
    }

    /// So many bytes. None where the peer closes before, or says nothing for 30 seconds.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if self.fill().ok()? == 0 {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
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

impl Wire {
    fn over(stream: TcpStream, http: &Http, h2: bool) -> Wire {
        let Some(config) = http.tls() else { return Wire::Plain(stream) };
        let mut config = rustls::ClientConfig::clone(config);
        config.alpn_protocols = h2.then(|| b"h2".to_vec()).into_iter().collect();
        let session = ClientConnection::new(std::sync::Arc::new(config), http.server_name()).expect("it is complete");
        Wire::Tls(Box::new(StreamOwned::new(session, stream)))
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
