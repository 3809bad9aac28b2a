//! An upstream that misbehaves as the test tells it to, by itself or in front of a real registry.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A listening upstream. Dropping it closes everything.
pub struct Faults {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub whole: bool,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

/// What to answer.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    claim: Option<usize>,
    framing: Framing,
    delay: Duration,
    end: End,
}

/// How the answer's body tells where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By a length in the head.
    Length,
    /// By a last chunk.
    Chunked,
    /// By the connection's end.
    Close,
}

/// How the answer ends.
#[derive(Clone, Copy, Debug)]
enum End {
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

type Script = Box<dyn Fn(&Seen) -> Option<Answer> + Send + Sync>;

struct Shared {
    script: Script,
    behind: Option<SocketAddr>,
    hasty: bool,
    heads: Mutex<Vec<Seen>>,
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    closed: AtomicUsize,
    over: AtomicBool,
}

impl Faults {
    /// An upstream that is nothing but `script`.
    pub fn scripted(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Faults {
        Faults::listen(Box::new(move |seen| Some(script(seen))), None, false)
    }

    /// An upstream that answers a request with a body as soon as it has the head, and then reads nothing more from that connection.
    pub fn hasty(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Faults {
        Faults::listen(Box::new(move |seen| Some(script(seen))), None, true)
    }

    /// An upstream that hands a request to the registry at `behind` (an address of the form `http://127.0.0.1:PORT`) wherever `script` gives no answer.
    #[track_caller]
    pub fn before(behind: &str, script: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) -> Faults {
        let address = behind.trim_start_matches("http://").parse();
        let address = address.unwrap_or_else(|e| panic!("{behind}: {e}"));
        Faults::listen(Box::new(script), Some(address), false)
    }

    /// Its origin, as in the gateway's `upstream.url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// Waits for a request that `wanted` recognises. Fails the test where none comes within 30 seconds.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = self.shared.seen().iter().find(|seen| wanted(seen)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no such request; seen: {:#?}", self.seen());
            crate::process::pause();
        }
    }

    /// Waits until the head of such a request has come, whatever becomes of its body.
    #[track_caller]
    pub fn wait_for_head(&self, wanted: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.heads().iter().any(&wanted) {
            assert!(Instant::now() < deadline, "no such request; seen: {:#?}", self.seen());
            crate::process::pause();
        }
    }

    /// The requests whose heads have come so far, whatever became of their bodies.
    pub fn heads(&self) -> Vec<Seen> {
        self.shared.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections are open to it now.
    pub fn connections(&self) -> usize {
        let closed = self.shared.closed.load(Ordering::SeqCst);
        self.shared.accepted.load(Ordering::SeqCst) - closed
    }

    fn listen(script: Script, behind: Option<SocketAddr>, hasty: bool) -> Faults {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            script,
            behind,
            hasty,
            heads: Mutex::default(),
            seen: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        Faults { address, shared, acceptor: Some(acceptor) }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in self.shared.open().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
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

impl Seen {
    /// A header's value; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        if let Ok(copy) = stream.try_clone() {
            shared.open().push(copy);
        }
        let shared = shared.clone();
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut connection = Connection { stream, number, read: Vec::new() };
            while connection.one_request(&shared).is_ok_and(|go_on| go_on) {}
            let _ = connection.stream.shutdown(Shutdown::Both);
            shared.closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}

struct Connection {
    stream: TcpStream,
    number: usize,
    read: Vec<u8>,
}

impl Connection {
    /// Reads a request and answers it; says whether the connection goes on.
    fn one_request(&mut self, shared: &Shared) -> std::io::Result<bool> {
        let Some(mut seen) = self.read_head()? else {
            return Ok(false);
        };
        shared.heads.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        let has_body =
            !matches!(seen.header("content-length"), "" | "0") || !seen.header("transfer-encoding").is_empty();
        if shared.hasty
            && has_body
            && let Some(answer) = (shared.script)(&seen)
        {
            shared.seen().push(seen.clone());
            self.answer(&seen, &answer)?;
            return self.leave_unread(shared);
        }
        if seen.header("expect").eq_ignore_ascii_case("100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let complete = self.read_body(&mut seen);
        seen.whole = complete.is_ok();
        shared.seen().push(seen.clone());
        complete?;
        match ((shared.script)(&seen), shared.behind) {
            (Some(answer), _) => self.answer(&seen, &answer),
            (None, Some(behind)) => self.hand_on(&seen, behind).map(|()| false),
            (None, None) => Ok(false),
        }
    }

    fn read_head(&mut self) -> std::io::Result<Option<Seen>> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let mut start = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Some(Seen {
            method: start.next().unwrap_or_default(),
            target: start.next().unwrap_or_default(),
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
            whole: false,
            connection: self.number,
        }))
    }

    fn read_body(&mut self, seen: &mut Seen) -> std::io::Result<()> {
        if !seen.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            let length = seen.header("content-length").parse().unwrap_or(0);
            return self.take(length, &mut seen.body);
        }
        loop {
            let size = self.line()?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
            self.take(size, &mut seen.body)?;
            // After a chunk comes an empty line; after the last one trailers, of which there are none.
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self, mut length: usize, into: &mut Vec<u8>) -> std::io::Result<()> {
        while length > 0 {
            if self.read.is_empty() && self.fill()? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let now = length.min(self.read.len());
            into.extend(self.read.drain(..now));
            length -= now;
        }
        Ok(())
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.fill()? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn answer(&mut self, seen: &Seen, answer: &Answer) -> std::io::Result<bool> {
        std::thread::sleep(answer.delay);
        let sent = match answer.end {
            End::Dropped => return Ok(false),
            End::Silent => return self.wait_for_peer(),
            End::Whole => answer.body.len(),
            End::CutAfter(bytes) | End::StallAfter(bytes) => bytes.min(answer.body.len()),
        };
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if answer.status != 204 && answer.status >= 200 {
            match answer.framing {
                Framing::Length => {
                    head += &format!("content-length: {}\r\n", answer.claim.unwrap_or(answer.body.len()))
                }
                Framing::Chunked => head += "transfer-encoding: chunked\r\n",
                Framing::Close => head += "connection: close\r\n",
            }
        }
        self.stream.write_all(format!("{head}\r\n").as_bytes())?;
        if seen.method != "HEAD" {
            let body = answer.body.get(..sent).unwrap_or_default();
            if answer.framing == Framing::Chunked && sent > 0 {
                self.stream.write_all(format!("{sent:x}\r\n").as_bytes())?;
                self.stream.write_all(body)?;
                self.stream.write_all(b"\r\n")?;
            } else {
                self.stream.write_all(body)?;
            }
            if answer.framing == Framing::Chunked && matches!(answer.end, End::Whole) {
                self.stream.write_all(b"0\r\n\r\n")?;
            }
        }
        match answer.end {
            End::StallAfter(_) => self.wait_for_peer(),
            End::CutAfter(_) => Ok(false),
            _ => Ok(answer.claim.is_none() && answer.framing != Framing::Close),
        }
    }

    /// Sends the same request to the real registry and its answer back, byte for byte, on a connection that ends with it.
    fn hand_on(&mut self, seen: &Seen, behind: SocketAddr) -> std::io::Result<()> {
        let mut upstream = TcpStream::connect(behind)?;
        upstream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", seen.method, seen.target);
        for (name, value) in &seen.headers {
            let ours = ["connection", "transfer-encoding", "content-length", "expect"];
            if !ours.contains(&name.as_str()) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += &format!("content-length: {}\r\n\r\n", seen.body.len());
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&seen.body)?;
        std::io::copy(&mut upstream, &mut self.stream).map(drop)
    }

    /// Says nothing until the peer goes away.
    fn wait_for_peer(&mut self) -> std::io::Result<bool> {
        while self.fill()? > 0 {}
        Ok(false)
    }

    /// Holds the connection open without reading from it.
    fn leave_unread(&mut self, shared: &Shared) -> std::io::Result<bool> {
        while !shared.over.load(Ordering::SeqCst) && self.stream.peek(&mut [0]).is_ok() {
            crate::process::pause();
        }
        Ok(false)
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.read.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}
