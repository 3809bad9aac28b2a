//! Small changes to a corpus, decided by a seed.

/// Most bytes of a mutation.
const MAX_BYTES: usize = 8192;

/// What stands where one thing ends and another begins, and what only looks like ASCII.
const ODD: &[&str] = &[
    "/",
    ":",
    ".",
    "..",
    "*",
    ",",
    "=",
    "&",
    "%2f",
    "\"",
    "\\",
    " ",
    "\t",
    "\n",
    "\0",
    "\u{17f}",
    "\u{212a}",
    "\u{202e}",
    "ı",
    "9999999999",
    "-1",
    "[",
    "]",
    "{",
    "}",
    "null",
];

/// A row of numbers that its seed decides (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// The row that this seed decides.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `end`; 0 where that is 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (end.max(1) as u64)).expect("less than a usize")
    }

    /// The bounds of a part of so many bytes, seldom a long one.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let longest = if self.below(4) == 0 { length } else { 8 };
        let from = self.below(length + 1);
        from..(from + self.below(longest + 1)).min(length)
    }
}

/// One of the seeds, changed in one to four places.
pub fn of(seeds: &[&[u8]], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].to_vec();
    for _ in 0..=dice.below(4) {
        change(&mut bytes, seeds[dice.below(seeds.len())], dice);
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    match dice.below(9) {
        // A bit, a letter's case, any byte.
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
        1 => bytes.iter_mut().skip(at).filter(|byte| byte.is_ascii_alphabetic()).take(1).for_each(|byte| *byte ^= 0x20),
        2 => bytes.insert(at, u8::try_from(dice.below(256)).expect("a byte")),
        // Something odd, in between or instead.
        3 | 4 => {
            let end = if dice.below(2) == 0 { at } else { (at + 1).min(bytes.len()) };
            bytes.splice(at..end, ODD[dice.below(ODD.len())].bytes());
        }
        // A part less, a part twice.
        5 => drop(bytes.drain(dice.part(bytes.len()))),
        6 => {
            let part = bytes[dice.part(bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        // A part of another seed, or all of its end.
        7 => {
            let part = other[dice.part(other.len())].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
        }
    }
}
