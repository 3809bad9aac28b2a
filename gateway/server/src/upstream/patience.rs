//! How long a client is waited for in the middle of a body: silence adds up, and bytes make up for it.
//!
//! A deadline for each silence alone is kept by a byte a minute. Here a body that is waited for has so much patience left; to
//! wait takes from it, and each byte gives back what it would take at the slowest pace that is allowed.

use std::time::Duration;

/// What is left of the patience with one body.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    most: Duration,
    left: Duration,
    /// Bytes a second; at 0 any byte restores all.
    slowest: u64,
}

impl Patience {
    /// All of it. A single silence lasts `most` at the longest.
    pub const fn new(most: Duration, slowest: u64) -> Self {
        Self { most, left: most, slowest }
    }

    /// How much longer nothing may come.
    pub const fn left(&self) -> Duration {
        self.left
    }

    /// Whether nothing is taken from it.
    pub fn is_whole(&self) -> bool {
        self.left == self.most
    }

    /// Nothing came for so long.
    pub fn waited(&mut self, silence: Duration) {
        self.left = self.left.saturating_sub(silence);
    }

    /// So many bytes came.
    pub fn came(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let worth = bytes.saturating_mul(1_000_000).checked_div(self.slowest).map_or(self.most, Duration::from_micros);
        self.left = self.left.saturating_add(worth).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How long a client lasts that sends so many bytes after each of these silences; at most a day.
    fn lasts(slowest: u64, bytes: usize, silence: Duration) -> Duration {
        let mut patience = Patience::new(MINUTE, slowest);
        let mut time = Duration::ZERO;
        while time < Duration::from_secs(86_400) {
            if silence >= patience.left() {
                return time.saturating_add(patience.left());
            }
            time = time.saturating_add(silence);
            patience.waited(silence);
            patience.came(bytes);
        }
        time
    }

    #[test]
    fn silence_is_borne_once() {
        let mut patience = Patience::new(MINUTE, 1000);
        patience.waited(Duration::from_secs(59));
        assert_eq!(patience.left(), Duration::from_secs(1));
        patience.came(10_000);
        assert_eq!(patience.left(), Duration::from_secs(11));
        patience.came(1_000_000);
        assert_eq!(patience.left(), MINUTE);
        patience.waited(MINUTE);
        assert_eq!(patience.left(), Duration::ZERO);
    }

    #[test]
    fn a_byte_a_while_does_not_last() {
        assert!(lasts(1024, 1, Duration::from_secs(50)) < MINUTE.saturating_add(Duration::from_secs(1)));
        assert!(lasts(1024, 1, Duration::from_millis(5)) < MINUTE * 2);
        assert!(lasts(1024, 900, Duration::from_secs(1)) < MINUTE * 10);
        assert!(lasts(1024, 1100, Duration::from_secs(1)) >= MINUTE * 1440);
        assert!(lasts(0, 1, Duration::from_secs(50)) >= MINUTE * 1440, "without a pace silence alone counts");
    }

    proptest! {
        /// Who is faster than the slowest pace, and never silent for too long, is never given up; who is slower is.
        #[test]
        fn the_pace_decides(slowest in 1_u64..1_000_000, bytes in 1_usize..1_000_000, millis in 1_u64..59_000) {
            let pace = bytes as f64 * 1000.0 / millis as f64;
            let slowest_pace = slowest as f64;
            let lasted = lasts(slowest, bytes, Duration::from_millis(millis));
            if pace > slowest_pace * 1.02 + 1.0 {
                prop_assert!(lasted >= Duration::from_secs(86_400));
            } else if pace * 1.05 + 1.0 < slowest_pace {
                prop_assert!(lasted < Duration::from_secs(86_400));
            }
        }
    }
}
