//! What a client without TLS speaks: with TLS it is agreed on in the handshake, without it is told by the first bytes alone.

use tokio::io::{self, AsyncRead, AsyncReadExt};

/// What HTTP/2 begins with (RFC 9113, section 3.4); no other version has a method of this name.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether this is HTTP/2, and no further: mostly once. What was read is to be read again.
///
/// # Errors
/// The connection has failed.
pub async fn look(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(bool, Vec<u8>)> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        let missing = PREFACE.len().saturating_sub(seen.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    Ok((seen == PREFACE, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    /// What is seen of these bytes, which are followed by others; each piece is read before the next one comes.
    async fn seen(bytes: &[u8], piece: usize) -> (bool, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(piece);
        let sending = async {
            client.write_all(bytes).await.unwrap();
            std::future::pending().await
        };
        tokio::select! {
            seen = look(&mut server) => seen.unwrap(),
            () = sending => unreachable!("it never ends"),
        }
    }

    #[tokio::test]
    async fn the_preface_is_known_in_one_piece_and_in_many_and_nothing_behind_it_is_taken() {
        for piece in [1, 2, 23, 24, 25, 100] {
            let bytes = [PREFACE.as_slice(), &[0; 50]].concat();
            assert_eq!(seen(&bytes, piece).await, (true, PREFACE.to_vec()), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn whatever_else_it_is_is_known_at_the_first_byte_that_differs() {
        for bytes in ["G", "POST /v2/ HTTP/1.1\r\n", "PRI * HTTP/1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r\n"] {
            for piece in [1, 100] {
                let (is_h2, seen) = seen(bytes.as_bytes(), piece).await;
                assert!(!is_h2, "{bytes:?}");
                assert!(bytes.as_bytes().starts_with(&seen) && !seen.is_empty(), "{seen:?} of {bytes:?}");
            }
        }
    }

    #[tokio::test]
    async fn who_goes_away_in_its_middle_has_not_begun() {
        for bytes in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(look(&mut &*bytes).await.unwrap(), (false, bytes.to_vec()));
        }
    }
}
