//! A way to a Redis on which its answers can be held back: it is told all that it is asked, and nobody hears what it says.

use crate::redis::Redis;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest that an answer is held, so that a test that fails still ends.
const LONGEST: Duration = Duration::from_secs(60);

/// A port of this machine's, with a Redis behind it. Connections end with whoever made them.
pub struct Lag {
    address: SocketAddr,
    way: Arc<Way>,
    acceptor: Option<JoinHandle<()>>,
}

struct Way {
    behind: PathBuf,
    held: Mutex<bool>,
    released: Condvar,
    over: AtomicBool,
}

impl Lag {
    /// A way on which nothing is held yet.
    #[track_caller]
    pub fn before(redis: &Redis) -> Lag {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (held, released, over) = (Mutex::new(false), Condvar::new(), AtomicBool::new(false));
        let way = Arc::new(Way { behind: redis.socket(), held, released, over });
        let acceptor = std::thread::spawn({
            let way = Arc::clone(&way);
            move || {
                for client in listener.incoming().flatten() {
                    if way.over.load(Ordering::SeqCst) {
                        return;
                    }
                    // Without a server behind it the connection ends at once.
                    let _ = Arc::clone(&way).carry(client);
                }
            }
        });
        Lag { address, way, acceptor: Some(acceptor) }
    }

    /// What `limits.shared` is set to.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on no answer gets through.
    pub fn hold(&self) {
        self.way.set(true);
    }

    /// Lets through what was held, late as it is, and all that comes.
    pub fn release(&self) {
        self.way.set(false);
    }
}

impl Way {
    fn set(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.released.notify_all();
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.released.wait_timeout_while(held, LONGEST, |held| *held);
    }

    fn carry(self: Arc<Self>, mut client: TcpStream) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut server = UnixStream::connect(&self.behind)?;
        let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut asks, &mut asked);
            let _ = asked.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let mut answer = [0; 4096];
            while let Ok(length @ 1..) = server.read(&mut answer) {
                self.wait();
                if client.write_all(answer.get(..length).unwrap_or_default()).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
        });
        Ok(())
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.release();
        self.way.over.store(true, Ordering::SeqCst);
        // It is woken by one more connection.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}
