//! The attacks. Each goes on until its time is over, says how often it was made, and leaves its connections to be closed.

use super::ground::Target;
use portcullis_tests::frames::{GREETING, WHOLE, frame, head, kind};
use portcullis_tests::raw::Approach;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

/// An attack.
pub(super) struct Attack {
    /// What it is called.
    pub(super) name: &'static str,
    /// Makes it, and says how often.
    pub(super) make: fn(Arc<Target>) -> Making,
}

/// An attack that is being made.
type Making = Pin<Box<dyn Future<Output = u64> + Send>>;

/// Every one of them.
pub(super) const ALL: &[Attack] = &[
    Attack { name: "slow heads", make: |target| Box::pin(slow_heads(target)) },
    Attack { name: "slow bodies", make: |target| Box::pin(slow_bodies(target)) },
    Attack { name: "slow readers", make: |target| Box::pin(slow_readers(target)) },
    Attack { name: "a flood of connections", make: |target| Box::pin(connections(target)) },
    Attack { name: "a flood of handshakes", make: |target| Box::pin(handshakes(target)) },
    Attack { name: "rapid resets", make: |target| Box::pin(rapid_resets(target)) },
    Attack { name: "bombs of headers", make: |target| Box::pin(header_bombs(target)) },
    Attack { name: "guessed logins", make: |target| Box::pin(guessed_logins(target)) },
    Attack { name: "a flood at the token endpoint", make: |target| Box::pin(token_flood(target)) },
    Attack { name: "thousands of addresses", make: |target| Box::pin(many_addresses(target)) },
    Attack { name: "bodies in chunks of one byte", make: |target| Box::pin(crumbs(target)) },
    Attack { name: "uploads that are never finished", make: |target| Box::pin(abandoned_uploads(target)) },
];

/// The waits between two bytes of who is slow: shorter than any deadline.
const DRIP: Duration = Duration::from_millis(400);

/// Does this so often a second until the time is over; a task of its own for each, and not more than some hundred at once.
async fn at_rate<F, Fut>(target: &Arc<Target>, per_s: f64, act: F) -> u64
where
    F: Fn(Arc<Target>, u64) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (begun, mut number, mut acts) = (tokio::time::Instant::now(), 0, JoinSet::new());
    while target.goes_on() {
        acts.spawn(act(Arc::clone(target), number));
        number += 1;
        tokio::time::sleep_until(begun + Duration::from_secs_f64(number as f64 / per_s)).await;
        while acts.try_join_next().is_some() {}
        while acts.len() >= 300 && timeout_at(target.end(), acts.join_next()).await.is_ok() {}
    }
    number
}

/// Keeps so many of this going until the time is over: what has ended is begun anew, after a moment.
async fn kept<F, Fut>(target: &Arc<Target>, count: usize, act: F) -> u64
where
    F: Fn(Arc<Target>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let made = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for number in 0..count {
        let (target, act, made) = (Arc::clone(target), act.clone(), Arc::clone(&made));
        all.spawn(async move {
            // Not all in the same moment.
            sleep(Duration::from_millis(5) * u32::try_from(number).unwrap_or(0)).await;
            while target.goes_on() {
                made.fetch_add(1, Ordering::Relaxed);
                let _ = timeout_at(target.end(), act(Arc::clone(&target))).await;
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    while all.join_next().await.is_some() {}
    made.load(Ordering::Relaxed)
}

/// Sends this again and again with a pause, until the other side has had enough.
async fn drip(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let mut answer = [0; 1024];
    loop {
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        // An answer is the end.
        if timeout(DRIP, stream.read(&mut answer)).await.is_ok() {
            return;
        }
    }
}

async fn slow_heads(target: Arc<Target>) -> u64 {
    kept(&target, 60, |target| async move {
        let Ok(mut stream) = target.attacker.secure(&target.http).await else { return };
        let begin = format!("GET /v2/ HTTP/1.1\r\nhost: {}\r\nx-slow: ", target.http.authority());
        if stream.write_all(begin.as_bytes()).await.is_ok() {
            drip(stream, b"a").await;
        }
    })
    .await
}

async fn slow_bodies(target: Arc<Target>) -> u64 {
    kept(&target, 60, |target| async move {
        let Some(location) = begin_upload(&target).await else { return };
        let Ok(mut stream) = target.attacker.secure(&target.http).await else { return };
        let begin = target.head(&format!("PATCH {location}"), "content-length: 1000000\r\n\r\n");
        if stream.write_all(begin.as_bytes()).await.is_ok() {
            drip(stream, b"a").await;
        }
    })
    .await
}

async fn slow_readers(target: Arc<Target>) -> u64 {
    kept(&target, 40, |target| async move {
        // With windows of the usual size the kernels alone would take in some ten megabytes each: work for nobody.
        let approach = Approach { window: Some(16 * 1024), ..target.attacker.clone() };
        let Ok(mut stream) = approach.secure(&target.http).await else { return };
        let pull = target.head(&format!("GET /v2/acme/app/blobs/{}", target.blob), "\r\n");
        if stream.write_all(pull.as_bytes()).await.is_err() {
            return;
        }
        let mut sip = [0; 512];
        while stream.read(&mut sip).await.is_ok_and(|count| count > 0) {
            sleep(DRIP).await;
        }
    })
    .await
}

async fn connections(target: Arc<Target>) -> u64 {
    at_rate(&target, 400.0, |target, _| async move {
        let Ok(mut stream) = target.attacker.connect(target.http.address()).await else { return };
        // Held for as long as it is borne.
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await
}

/// The first flight alone: the gateway signs, and the attacker computes nothing.
async fn handshakes(target: Arc<Target>) -> u64 {
    at_rate(&target, 150.0, |target, _| async move {
        let Ok(mut stream) = target.attacker.connect(target.http.address()).await else { return };
        if stream.write_all(&hello()).await.is_ok() {
            let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 4096])).await;
        }
    })
    .await
}

/// What a client of TLS 1.2 begins with.
fn hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let extensions = [0, 10, 0, 4, 0, 2, 0, 29, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4, 0, 23, 0, 0];
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1, 0], length.as_slice(), &body].concat();
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    [&[22, 3, 1], length.as_slice(), &message].concat()
}

/// Streams that are opened and reset at once, over and over; cut off, the attacker comes back.
async fn rapid_resets(target: Arc<Target>) -> u64 {
    let streams = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&streams);
    kept(&target, 4, move |target| {
        let streams = Arc::clone(&counted);
        async move {
            let approach = Approach { h2: true, ..target.attacker.clone() };
            let Ok(mut stream) = approach.secure(&target.http).await else { return };
            let block = head("GET", &target.http.authority(), "/v2/acme/app/manifests/1.0", &[]);
            let mut bytes = GREETING.to_vec();
            for number in 0_u32.. {
                let id = number * 2 + 1;
                bytes.extend(frame(kind::HEADERS, WHOLE, id, &block));
                bytes.extend(frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8]));
                if number % 10 == 9 {
                    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    streams.fetch_add(10, Ordering::Relaxed);
                    bytes.clear();
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    })
    .await;
    streams.load(Ordering::Relaxed)
}

async fn header_bombs(target: Arc<Target>) -> u64 {
    at_rate(&target, 40.0, |target, number| async move {
        let h2 = number % 2 == 0;
        let approach = Approach { h2, ..target.attacker.clone() };
        let Ok(mut stream) = approach.secure(&target.http).await else { return };
        let bomb = if h2 {
            // One entry of the table, named ten thousand times.
            let mut block = head("GET", &target.http.authority(), "/v2/", &[]);
            block.extend([0x40, 1, b'x', 100]);
            block.extend([b'y'; 100]);
            block.extend([0xbe; 10_000]);
            [GREETING, &frame(kind::HEADERS, WHOLE, 1, &block)].concat()
        } else {
            format!("GET /v2/ HTTP/1.1\r\nhost: a\r\n{}", format!("x: {}\r\n", "y".repeat(1000)).repeat(200))
                .into_bytes()
        };
        let _ = stream.write_all(&bomb).await;
        let _ = timeout(Duration::from_secs(1), stream.read(&mut [0; 1024])).await;
    })
    .await
}

async fn guessed_logins(target: Arc<Target>) -> u64 {
    at_rate(&target, 40.0, |target, number| async move {
        use portcullis_tests::http::Credentials;
        let guess = Credentials::Basic(target.robot.clone(), format!("portcullis_{number:043}"));
        let scope = "/token?service=portcullis&scope=repository:acme/app:pull";
        let line = guess.header().unwrap_or_default();
        exchange(&target, &format!("GET {scope}"), Some(&line)).await;
    })
    .await
}

async fn token_flood(target: Arc<Target>) -> u64 {
    at_rate(&target, 60.0, |target, _| async move {
        exchange(&target, "GET /token?service=portcullis&scope=repository:acme/app:pull", None).await;
    })
    .await
}

/// One request over a connection of its own, whatever the answer.
async fn exchange(target: &Target, line: &str, authorization: Option<&str>) {
    let Ok(mut stream) = target.attacker.secure(&target.http).await else { return };
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let host = target.http.authority();
    let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
    }
}

/// Each connection is said to come from another address, of ten thousand, and goes at once.
async fn many_addresses(target: Arc<Target>) -> u64 {
    // Some together, so that the attacker's own tasks cost little.
    const TOGETHER: u64 = 10;
    let made = at_rate(&target, 200.0, |target, number| async move {
        for part in 0..TOGETHER {
            let one = u32::try_from((number * TOGETHER + part) % 10_000).unwrap_or(0);
            // Balancers enough that none of them runs out of ports.
            let balancer = Ipv4Addr::new(127, 9, u8::try_from(one % 200).unwrap_or(0), 1);
            let header = format!("PROXY TCP4 {} 127.0.0.1 4711 443\r\n", Ipv4Addr::from(0xcb00_0000 + one));
            drop(Approach::from(balancer).saying(header).connect(target.http.address()).await);
        }
    });
    made.await * TOGETHER
}

async fn crumbs(target: Arc<Target>) -> u64 {
    kept(&target, 4, |target| async move {
        let Some(location) = begin_upload(&target).await else { return };
        let Ok(mut stream) = target.attacker.secure(&target.http).await else { return };
        let begin = target.head(&format!("PATCH {location}"), "transfer-encoding: chunked\r\n\r\n");
        if stream.write_all(begin.as_bytes()).await.is_err() {
            return;
        }
        let chunks = b"1\r\na\r\n".repeat(500);
        while stream.write_all(&chunks).await.is_ok() && stream.flush().await.is_ok() {
            if timeout(Duration::from_millis(20), stream.read(&mut [0; 1024])).await.is_ok() {
                return;
            }
        }
    })
    .await
}

async fn abandoned_uploads(target: Arc<Target>) -> u64 {
    at_rate(&target, 10.0, |target, _| async move {
        drop(begin_upload(&target).await);
    })
    .await
}

/// The path of a new upload; none where it is refused.
async fn begin_upload(target: &Target) -> Option<String> {
    let mut stream = target.attacker.secure(&target.http).await.ok()?;
    let begin = target.head("POST /v2/acme/app/blobs/uploads/", "content-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(begin.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.ok()?.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    })?;
    Some(location.strip_prefix(&target.http.origin()).unwrap_or(&location).to_owned())
}
