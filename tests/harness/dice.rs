//! Chance that can be had again: all that a seed decides.

use crate::image::Blob;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// A row of numbers that its seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// The seed of a test: what `PORTCULLIS_TEST_SEED` says, or else another one each time. It is printed, and shown where the test
/// fails.
pub fn seed() -> u64 {
    let given = std::env::var("PORTCULLIS_TEST_SEED").ok();
    let seed = given.map(|seed| seed.parse().expect("PORTCULLIS_TEST_SEED is a number")).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        now.as_nanos() as u64
    });
    println!("PORTCULLIS_TEST_SEED={seed}");
    seed
}

impl Dice {
    /// The row that this seed decides.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Another row, for somebody else: what the one throws does not change what the other does.
    pub fn other(&mut self) -> Dice {
        Dice(self.next())
    }

    /// One of these numbers.
    pub fn one_of(&mut self, range: Range<usize>) -> usize {
        range.start + usize::try_from(self.next() % (range.len() as u64)).expect("less than the range's length")
    }

    /// One of these things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.one_of(0..things.len())]
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, of_a_hundred: usize) -> bool {
        self.one_of(0..100) < of_a_hundred
    }

    /// So many bytes.
    pub fn bytes(&mut self, size: usize) -> Vec<u8> {
        (0..size.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(size).collect()
    }

    /// A blob of so many bytes.
    pub fn blob(&mut self, size: usize) -> Blob {
        Blob::new("application/vnd.oci.image.layer.v1.tar", self.bytes(size))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
