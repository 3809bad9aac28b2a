//! HTTP/2's frames as they come in, seen by their heads alone: streams that are opened and reset, and frames that carry
//! neither a request nor its body, are work for us and none for the client.
//!
//! h2 bounds what a connection makes it remember: streams that wait and were reset, CONTINUATION frames and the list of
//! headers, DATA frames of no or few bytes, resets that a client's errors make it send; of SETTINGS and PING it remembers one
//! and reads no further until that is answered. What it does not bound is how often: here it is.

use super::preface::PREFACE;
use std::time::{Duration, Instant};

/// The time over which is counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Most frames in that time that are neither requests nor bodies nor room for answers. Clients that measure the line by
/// PING send some hundred.
const CONTROL_FRAMES: u32 = 2000;
const HEAD: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Streams that were reset.
    #[error("the client has reset too many streams")]
    Resets,
    /// SETTINGS, PING, PRIORITY and what nobody knows.
    #[error("the client has sent too many control frames")]
    ControlFrames,
}

impl Excess {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::ControlFrames => "control-frames",
        }
    }
}

/// The frames of one connection.
pub struct Frames {
    head: [u8; HEAD],
    have: usize,
    /// Bytes up to the next head.
    skip: usize,
    last_stream: u32,
    resets: Count,
    control: Count,
}

struct Count {
    most: u32,
    since: Option<Instant>,
    count: u32,
}

impl Frames {
    /// Nothing has come yet. A client may reset so many streams in ten seconds.
    pub const fn new(most_resets: u32) -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            skip: PREFACE.len(),
            last_stream: 0,
            resets: Count { most: most_resets, since: None, count: 0 },
            control: Count { most: CONTROL_FRAMES, since: None, count: 0 },
        }
    }

    /// The last stream that the client has opened.
    pub const fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Looks at the bytes that come next, wherever they begin and end.
    ///
    /// # Errors
    /// There is too much of something.
    pub fn see(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Excess> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip = self.skip.saturating_sub(count);
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let free = self.head.get_mut(self.have..).unwrap_or_default();
            let count = free.len().min(bytes.len());
            if let (Some(free), Some(more)) = (free.get_mut(..count), bytes.get(..count)) {
                free.copy_from_slice(more);
            }
            bytes = bytes.get(count..).unwrap_or_default();
            self.have = self.have.saturating_add(count);
            if self.have == HEAD {
                self.have = 0;
                self.frame(&now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: &impl Fn() -> Instant) -> Result<(), Excess> {
        let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.head;
        self.skip = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
        match kind {
            DATA | WINDOW_UPDATE | CONTINUATION => Ok(()),
            HEADERS => {
                self.last_stream = self.last_stream.max(u32::from_be_bytes([s0 & 0x7F, s1, s2, s3]));
                Ok(())
            }
            RST_STREAM if self.resets.one_more(now()) => Err(Excess::Resets),
            RST_STREAM => Ok(()),
            _ if self.control.one_more(now()) => Err(Excess::ControlFrames),
            _ => Ok(()),
        }
    }
}

impl Count {
    /// Counts one more, and says whether that is too many.
    fn one_more(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count > self.most
    }
}

/// GOAWAY with ENHANCE_YOUR_CALM, and why (RFC 9113, section 6.8).
pub fn calm_down(last_stream: u32, why: Excess) -> Vec<u8> {
    const ENHANCE_YOUR_CALM: u32 = 0xB;
    let why = why.to_string();
    let length = u8::try_from(why.len().saturating_add(8)).unwrap_or(u8::MAX);
    let mut frame = vec![0, 0, length, 0x7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(why.bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[l0, l1, l2, kind, 0], stream.to_be_bytes().as_slice(), payload].concat()
    }

    /// Bytes that look like frames, where they are none.
    fn reset_in_a_body() -> Vec<u8> {
        frame(DATA, 1, &frame(RST_STREAM, 1, &[0; 4]).repeat(100))
    }

    #[test]
    fn resets_are_counted_and_nothing_else_is_taken_for_one() {
        let mut frames = Frames::new(3);
        let now = Instant::now();
        let mut bytes = PREFACE.to_vec();
        for stream in 0..3 {
            bytes.extend(frame(HEADERS, stream * 2 + 1, b"head"));
            bytes.extend(reset_in_a_body());
            bytes.extend(frame(WINDOW_UPDATE, 0, &[0; 4]));
            bytes.extend(frame(RST_STREAM, stream * 2 + 1, &[0; 4]));
        }
        assert_eq!(frames.see(&bytes, || now), Ok(()));
        assert_eq!(frames.last_stream(), 5);
        assert_eq!(frames.see(&frame(RST_STREAM, 5, &[0; 4]), || now), Err(Excess::Resets));
    }

    #[test]
    fn another_time_counts_anew() {
        let mut frames = Frames::new(3);
        let begun = Instant::now();
        frames.see(PREFACE, || begun).unwrap();
        for time in 0..20 {
            for _ in 0..3 {
                assert_eq!(frames.see(&frame(RST_STREAM, 1, &[0; 4]), || begun + WINDOW * time), Ok(()));
            }
        }
    }

    #[test]
    fn a_flood_of_settings_pings_and_priorities_has_an_end() {
        for kind in [0x2, 0x4, 0x6, 0x7, 0xA, 0xFF] {
            let mut frames = Frames::new(3);
            let now = Instant::now();
            frames.see(PREFACE, || now).unwrap();
            let one = frame(kind, 0, &[0; 8]);
            assert_eq!(frames.see(&one.repeat(CONTROL_FRAMES as usize), || now), Ok(()), "{kind}");
            assert_eq!(frames.see(&one, || now), Err(Excess::ControlFrames), "{kind}");
        }
    }

    #[test]
    fn the_last_word_is_a_frame_as_the_standard_has_it() {
        let frame = calm_down(5, Excess::Resets);
        assert_eq!(frame[..9], [0, 0, u8::try_from(frame.len() - 9).unwrap(), 7, 0, 0, 0, 0, 0]);
        assert_eq!(frame[9..17], [0, 0, 0, 5, 0, 0, 0, 11]);
    }

    proptest! {
        /// However the bytes are cut into pieces, the same is counted.
        #[test]
        fn pieces_make_no_difference(kinds in prop::collection::vec((0_u8..12, 0_usize..40), 0..60), piece in 1_usize..50) {
            let now = Instant::now();
            let mut bytes = PREFACE.to_vec();
            for (kind, length) in &kinds {
                bytes.extend(frame(*kind, 1, &vec![3; *length]));
            }
            let resets = kinds.iter().filter(|(kind, _)| *kind == RST_STREAM).count();
            let mut frames = Frames::new(5);
            let seen = bytes.chunks(piece).try_for_each(|piece| frames.see(piece, || now));
            prop_assert_eq!(seen.is_err(), resets > 5);
        }
    }
}
