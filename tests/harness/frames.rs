//! HTTP/2's frames by hand, for what no library sends.

use crate::raw::Raw;

/// All that a client has to say before its first request: the preface and empty SETTINGS.
pub const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Kinds of frames (RFC 9113, section 6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0x0;
    pub const HEADERS: u8 = 0x1;
    pub const PRIORITY: u8 = 0x2;
    pub const RST_STREAM: u8 = 0x3;
    pub const SETTINGS: u8 = 0x4;
    pub const PING: u8 = 0x6;
    pub const GOAWAY: u8 = 0x7;
    pub const CONTINUATION: u8 = 0x9;
}

/// No more headers follow, and no body.
pub const WHOLE: u8 = 0x5;
/// No more headers follow; a body does.
pub const END_HEADERS: u8 = 0x4;
/// ENHANCE_YOUR_CALM (RFC 9113, section 7).
pub const CALM: u32 = 0xb;

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Which stream it is for.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    [&[l0, l1, l2, kind, flags], stream.to_be_bytes().as_slice(), payload].concat()
}

/// A request's head as one block of HPACK, without any compression.
pub fn head(method: &str, authority: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // Names of the static table: 1 is :authority, 2 is :method, 4 is :path; 0x87 is :scheme https.
    let mut block = vec![0x87];
    for (name, value) in [(2, method), (4, path), (1, authority)] {
        block.push(name);
        text(&mut block, value);
    }
    for (name, value) in headers {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// RFC 7541, sections 5.1 and 5.2.
fn text(block: &mut Vec<u8>, text: &str) {
    if let Some(mut rest) = text.len().checked_sub(127) {
        block.push(127);
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).expect("less than 128") | 0x80);
            rest /= 128;
        }
        block.push(u8::try_from(rest).expect("less than 128"));
    } else {
        block.push(u8::try_from(text.len()).expect("less than 127"));
    }
    block.extend(text.bytes());
}

impl Raw {
    /// The next frame. None where the peer closes, or says nothing for 30 seconds.
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload: self.take(length as usize)? })
    }

    /// The reason in the GOAWAY that comes at last; none where the peer closes without one.
    pub fn last_word(&mut self) -> Option<u32> {
        while let Some(frame) = self.frame() {
            if frame.kind == kind::GOAWAY {
                return frame.payload.get(4..8).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
            }
        }
        None
    }
}
