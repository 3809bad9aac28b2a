//! What HTTP/2 sends on one connection is gathered until the thread has nothing else to do, and leaves in one write.
//!
//! h2 flushes after every frame with data, so that a buffer alone gathers nothing. No timer: bytes wait for tasks that are
//! ready already, and never while the thread sleeps.
//!
//! What comes in is counted, and a client that sends too much of what is no request is told to calm down, and cut off.

use super::frames::{Excess, Frames, calm_down};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// What is gathered before it is written whatever else there is to do; a TLS record holds as much.
const CAPACITY: usize = 16 * 1024;

/// A stream whose flushes are put off until the runtime has run all tasks that are ready.
pub struct Cork<S> {
    stream: BufWriter<S>,
    put_off: Option<Arc<PutOff>>,
    frames: Frames,
    /// Whether what was written so far ends where a frame ends: h2 flushes then alone.
    is_even: bool,
    excess: Arc<OnceLock<Excess>>,
}

/// A flush that was put off.
struct PutOff {
    is_due: AtomicBool,
    task: Waker,
}

impl Wake for PutOff {
    fn wake(self: Arc<Self>) {
        self.is_due.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

impl PutOff {
    /// It is due, and its task woken, when the runtime has run out of ready tasks, or has run some dozens of them.
    fn begin(task: &Waker) -> Arc<Self> {
        let put_off = Arc::new(Self { is_due: AtomicBool::new(false), task: task.clone() });
        let waker = Waker::from(Arc::clone(&put_off));
        // Polled once, it leaves the waker with the scheduler, and need not be kept.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        put_off
    }

    fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }
}

impl<S: AsyncRead + AsyncWrite> Cork<S> {
    /// Corks a stream whose client may send these frames.
    pub fn new(stream: S, frames: Frames) -> Self {
        let stream = BufWriter::with_capacity(CAPACITY, stream);
        Self { stream, put_off: None, frames, is_even: true, excess: Arc::default() }
    }

    /// Why the client was cut off, once it was.
    pub fn excess(&self) -> Arc<OnceLock<Excess>> {
        Arc::clone(&self.excess)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_even = false;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_even = false;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Says that it is done where it is put off. Whoever asked is woken for it, and h2 asks again whenever it is polled.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.is_even = true;
        if !this.stream.buffer().is_empty() {
            let task = cx.waker();
            let put_off = this.put_off.get_or_insert_with(|| PutOff::begin(task));
            // Another task than the one that will be woken does not rely on it.
            if !put_off.is_due() && put_off.task.will_wake(task) {
                return Poll::Ready(Ok(()));
            }
        }
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        this.put_off = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        match this.frames.see(came, Instant::now) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(excess) => Poll::Ready(Err(this.cut(cx, excess))),
        }
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// The last word, as far as it goes out at once: nobody waits for a client of this kind.
    fn cut(&mut self, cx: &mut Context<'_>, excess: Excess) -> io::Error {
        if self.is_even {
            let word = calm_down(self.frames.last_stream(), excess);
            let _ = Pin::new(&mut self.stream).poll_write(cx, &word).is_ready();
            let _ = Pin::new(&mut self.stream).poll_flush(cx).is_ready();
        }
        let _ = self.excess.set(excess);
        io::Error::other(excess)
    }
}

#[cfg(test)]
mod tests;
