//! One connection: reads request after request and answers as the script says.

use super::answer::{Answer, End, Framing};
use super::{Seen, Shared};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One connection to a faulty upstream.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    number: usize,
    read: Vec<u8>,
}

impl Connection {
    /// The connection that was accepted as this one, counted from 0.
    pub(super) fn new(stream: TcpStream, number: usize) -> Connection {
        Connection { stream, number, read: Vec::new() }
    }

    /// Reads a request and answers it; says whether the connection goes on.
    pub(super) fn one_request(&mut self, shared: &Shared) -> std::io::Result<bool> {
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
