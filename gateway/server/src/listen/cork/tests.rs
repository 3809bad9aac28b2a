use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use tokio::io::DuplexStream;
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinHandle;

/// A stream that keeps what each write wrote.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<Vec<u8>>>>);

impl Wire {
    fn writes(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().push(b"end".to_vec());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn put(cork: &mut Cork<Wire>, cx: &mut Context<'_>, bytes: &[u8]) {
    assert!(matches!(Pin::new(&mut *cork).poll_write(cx, bytes), Poll::Ready(Ok(n)) if n == bytes.len()));
    assert!(matches!(Pin::new(&mut *cork).poll_flush(cx), Poll::Ready(Ok(()))));
}

/// Writes and flushes each piece in its first turn, and flushes once in every later one, as h2 does.
fn talk(wire: &Wire, pieces: &'static [&'static str]) -> JoinHandle<()> {
    let mut cork = Cork::new(wire.clone(), Frames::new(100));
    let mut pieces = Some(pieces);
    tokio::spawn(poll_fn(move |cx| {
        for piece in pieces.take().unwrap_or_default() {
            put(&mut cork, cx, piece.as_bytes());
        }
        let _ = Pin::new(&mut cork).poll_flush(cx);
        Poll::Pending
    }))
}

#[tokio::test]
async fn what_is_flushed_several_times_leaves_in_one_write_when_nothing_else_is_ready() {
    let wire = Wire::default();
    let talking = talk(&wire, &["one ", "two ", "three"]);
    let other = {
        let wire = wire.clone();
        tokio::spawn(async move { wire.writes().len() })
    };
    assert_eq!(other.await.unwrap(), 0, "a task that was ready ran before");
    // Nothing but the scheduler brings it about: no timer, and no event.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.writes(), [b"one two three"]);
    talking.abort();
}

#[tokio::test]
async fn more_than_fits_does_not_wait() {
    let wire = Wire::default();
    let mut cork = Cork::new(wire.clone(), Frames::new(100));
    let piece = [7; 10_000];
    poll_fn(|cx| {
        put(&mut cork, cx, &piece);
        assert_eq!(wire.writes().len(), 0);
        put(&mut cork, cx, &piece);
        assert_eq!(wire.writes(), [piece]);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn the_end_takes_along_what_was_put_off() {
    let wire = Wire::default();
    let mut cork = Cork::new(wire.clone(), Frames::new(100));
    poll_fn(|cx| {
        put(&mut cork, cx, b"last words");
        Pin::new(&mut cork).poll_shutdown(cx)
    })
    .await
    .unwrap();
    assert_eq!(wire.writes(), [b"last words".as_slice(), b"end"]);
}

#[tokio::test]
async fn a_task_that_will_not_be_woken_flushes_at_once() {
    let wire = Wire::default();
    let mut cork = Cork::new(wire.clone(), Frames::new(100));
    put(&mut cork, &mut Context::from_waker(Waker::noop()), b"left behind");
    poll_fn(|cx| Pin::new(&mut cork).poll_flush(cx)).await.unwrap();
    assert_eq!(wire.writes(), [b"left behind"]);
}

/// One end of a pipe, its writes counted.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

/// An HTTP/2 server behind a cork, with a client of its own.
struct Served {
    client: SendRequest<Empty<Bytes>>,
    talking: JoinHandle<hyper::Result<()>>,
    writes: Arc<AtomicUsize>,
    drain: Arc<Notify>,
}

/// Answers `body`, as soon as `together` requests have come.
async fn serve(together: usize, body: Bytes) -> Served {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (writes, drain, all) = (Arc::default(), Arc::new(Notify::new()), Arc::new(Barrier::new(together)));
    let stream = TokioIo::new(Cork::new(Counted(ours, Arc::clone(&writes)), Frames::new(100)));
    let draining = Arc::clone(&drain);
    tokio::spawn(async move {
        let service = service_fn(move |_| {
            let (all, body) = (Arc::clone(&all), body.clone());
            async move {
                all.wait().await;
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            }
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut connection = pin!(builder.serve_connection(stream, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining.notified() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    });
    let (client, talking) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(theirs)).await.unwrap();
    Served { client, talking: tokio::spawn(talking), writes, drain }
}

async fn get(mut client: SendRequest<Empty<Bytes>>) -> Bytes {
    let answer = client.send_request(Request::new(Empty::new())).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn answers_of_many_streams_leave_together() {
    let served = serve(8, Bytes::from(vec![7; 1000])).await;
    let answers: Vec<_> = (0..8).map(|_| tokio::spawn(get(served.client.clone()))).collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap().len(), 1000);
    }
    // The settings of both sides take some; without the cork there are eight more.
    let writes = served.writes.load(Ordering::Relaxed);
    assert!(writes <= 4, "{writes} writes");
}

#[tokio::test]
async fn a_large_answer_arrives_whole_and_a_small_one_alone_is_not_kept_back() {
    for length in [1, 3_000_000] {
        let served = serve(1, Bytes::from(vec![7; length])).await;
        for _ in 0..3 {
            assert_eq!(get(served.client.clone()).await.len(), length);
        }
    }
}

#[tokio::test]
async fn a_drain_is_told_and_the_connection_ends_in_order() {
    let served = serve(1, Bytes::from_static(b"last")).await;
    assert_eq!(get(served.client.clone()).await, "last");
    served.drain.notify_one();
    served.talking.await.unwrap().unwrap();
    assert!(served.client.is_closed());
}
