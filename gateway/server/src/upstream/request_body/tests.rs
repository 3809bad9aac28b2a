use super::*;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::poll_fn;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const IDLE: Duration = Duration::from_millis(1000);

/// A request's body as the gateway has it, and the client that sends it.
async fn sent(slowest: u64) -> (ClientBody, DuplexStream) {
    let (mut client, ours) = tokio::io::duplex(64 * 1024);
    let (give, mut given) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let give = give.clone();
            async move {
                let _ = give.send(request.into_body());
                std::future::pending::<()>().await;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service).await
    });
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let inbound = Inbound::new(given.recv().await.unwrap(), Version::HTTP_11).unwrap();
    let timeouts = Timeouts { first_byte: IDLE, idle: IDLE, unread: IDLE, slowest };
    (inbound.stream(timeouts), client)
}

async fn next(body: &mut ClientBody) -> Result<usize, BodyFault> {
    let polled = poll_fn(|cx| body.poll_data(cx)).await.expect("it has not ended");
    polled.map(|frame| frame.data_ref().map_or(0, Bytes::len)).map_err(|_| body.inbound.failure().expect("it says why"))
}

/// Its client sends at once whenever there is room; the gateway takes what came only after a while, each time.
#[tokio::test]
async fn who_takes_the_bytes_late_does_not_blame_the_client() {
    let (mut body, mut client) = sent(1_000_000).await;
    for _ in 0..6 {
        // Somebody waits for bytes, and is busy with other things when they come.
        assert!(poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await.is_pending());
        client.write_all(b"1\r\na\r\n").await.unwrap();
        sleep(IDLE / 3).await;
        assert_eq!(next(&mut body).await, Ok(1));
    }
}

#[tokio::test]
async fn a_client_that_is_late_each_time_is_given_up() {
    let (mut body, mut client) = sent(1_000_000).await;
    let sending = tokio::spawn(async move {
        loop {
            sleep(IDLE / 3).await;
            client.write_all(b"1\r\na\r\n").await.unwrap();
        }
    });
    let begun = Instant::now();
    let fault = loop {
        if let Err(fault) = next(&mut body).await {
            break fault;
        }
        assert!(begun.elapsed() < IDLE * 20, "it is waited for");
    };
    assert_eq!(fault, BodyFault::Slow);
    assert!(begun.elapsed() >= IDLE);
    sending.abort();
}

#[tokio::test]
async fn without_a_pace_silence_alone_is_given_up() {
    let (mut body, mut client) = sent(0).await;
    for _ in 0..5 {
        client.write_all(b"1\r\na\r\n").await.unwrap();
        assert_eq!(next(&mut body).await, Ok(1));
        sleep(IDLE / 3).await;
    }
    assert_eq!(next(&mut body).await, Err(BodyFault::Stalled));
    drop(client);
}

#[tokio::test]
async fn pieces_of_a_few_bytes_are_borne_for_a_while_and_larger_ones_make_up_for_them() {
    let (mut body, mut client) = sent(0).await;
    let sending = tokio::spawn(async move {
        let large = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        for _ in 0..20 {
            client.write_all(&b"1\r\na\r\n".repeat(500)).await.unwrap();
            client.write_all(&large).await.unwrap();
        }
        let _ = client.write_all(&b"1\r\na\r\n".repeat(5000)).await;
        client
    });
    let (mut pieces, mut bytes) = (0, 0);
    let fault = loop {
        match next(&mut body).await {
            Ok(length) => {
                pieces += 1;
                bytes += length;
            }
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, BodyFault::Crumbs);
    assert!(
        bytes > 20 * 0x4000 && pieces > 20 * 500 + 2000 && pieces < 20 * 510 + 3000,
        "{pieces} pieces, {bytes} bytes"
    );
    sending.abort();
}
