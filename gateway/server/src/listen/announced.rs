//! A balancer's header, taken from a connection before anything else is.

use super::proxy::{self, Parsed, Source};
use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Reads a balancer's header and nothing behind it.
///
/// # Errors
/// It is none, or the connection ends in its middle.
pub async fn announced(stream: &mut TcpStream) -> io::Result<Source> {
    let mut have = Vec::new();
    let mut peeked = vec![0; proxy::MOST];
    loop {
        let count = stream.peek(&mut peeked).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = have.len();
        have.extend_from_slice(peeked.get(..count).unwrap_or_default());
        // What is only a part of a header holds nothing else, and can be taken.
        let (source, end) = match proxy::parse(&have).map_err(io::Error::other)? {
            Parsed::Incomplete => (None, have.len()),
            Parsed::Complete(source, end) => (Some(source), end),
        };
        let mine = peeked.get_mut(..end.saturating_sub(before)).unwrap_or_default();
        stream.read_exact(mine).await?;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    /// What is made of these bytes, behind which the balancer closes its side.
    async fn sent(bytes: &[u8]) -> (io::Result<Source>, Vec<u8>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut balancer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        balancer.write_all(bytes).await.unwrap();
        drop(balancer);
        let source = announced(&mut stream).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (source, rest)
    }

    #[tokio::test]
    async fn what_stands_behind_the_header_is_left_where_it_is() {
        let (source, rest) = sent(b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\nGET /").await;
        assert_eq!((source.unwrap(), rest), (Source::Client([192, 0, 2, 1].into()), b"GET /".to_vec()));
    }

    #[tokio::test]
    async fn a_balancer_that_dies_in_its_middle_is_not_waited_for() {
        for half in [b"".as_slice(), b"P", b"PROXY TCP4 192.0.2.1 10", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0"] {
            let (source, _) = sent(half).await;
            assert_eq!(source.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{half:?}");
        }
    }
}
