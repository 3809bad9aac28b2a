//! An upstream that misbehaves as the test tells it to, by itself or in front of a real registry.

mod answer;
mod connection;

pub use answer::Answer;

use connection::Connection;
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
            let mut connection = Connection::new(stream, number);
            while connection.one_request(&shared).is_ok_and(|go_on| go_on) {}
            let _ = connection.stream.shutdown(Shutdown::Both);
            shared.closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}
