//! One stream of HTTP/2 whose frames are the test's own: what a well-behaved client's library would not send.

use crate::http::{Request, block_on};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};

pub use h2::Reason;

/// A request whose head has been sent, on a connection of its own.
pub struct Stream {
    body: SendStream<Bytes>,
    ping: PingPong,
    // Without them the connection would end.
    _connection: (SendRequest<Bytes>, ResponseFuture),
}

impl Stream {
    /// Sends the head.
    #[track_caller]
    pub fn begin(request: Request) -> Stream {
        block_on(Stream::try_begin(request)).unwrap_or_else(|e| panic!("HTTP/2 does not begin: {e}"))
    }

    /// Sends these bytes, and returns when the gateway has read them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl Into<Bytes>) {
        self.body.send_data(bytes.into(), false).expect("the stream is open");
        // A ping may overtake what was queued before it. A second one cannot.
        for _ in 0..2 {
            block_on(self.ping.ping(Ping::opaque())).expect("the connection stands");
        }
    }

    /// Resets the stream in the middle of its body.
    #[track_caller]
    pub fn reset(&mut self, reason: Reason) {
        self.body.send_reset(reason);
        block_on(self.ping.ping(Ping::opaque())).expect("the connection stands");
    }

    async fn try_begin(request: Request) -> Result<Stream, String> {
        let (wire, head) = request.http2().into_wire().await?;
        let (requests, mut connection) = h2::client::handshake(wire).await.map_err(|e| e.to_string())?;
        let ping = connection.ping_pong().ok_or("it was taken already")?;
        tokio::spawn(connection);
        let mut requests = requests.ready().await.map_err(|e| e.to_string())?;
        let (answer, body) = requests.send_request(head, false).map_err(|e| e.to_string())?;
        Ok(Stream { body, ping, _connection: (requests, answer) })
    }
}
