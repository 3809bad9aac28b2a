//! How often and how much: rates, and whether one more fits (the generic cell rate algorithm, GCRA). It reads no clock: times
//! are passed in, in microseconds from any fixed moment.
//!
//! A key's whole state is one number, the moment at which all that it took is paid off. How far that lies ahead is its *level*:
//! what is taken raises it at once, time lowers it. What is asked for fits while the level stays within the rate's capacity;
//! what is *charged* afterwards, bytes, may raise it beyond: that is a debt, and until it is paid nothing more is let in.

mod keys;
mod login;
mod overrides;

#[cfg(test)]
mod tests;

pub use keys::{Kept, Key, Keys, PaidOff};
pub use login::{Failures, MAX_DELAY};
pub use overrides::{Change, LimitOwner, Overrides, Setting};

use crate::TenancyError;
use crate::quota::{MAX_BYTES, Size};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

const SECOND: u64 = 1_000_000;
/// Longest time that a rate can be about: 31 days.
const MAX_PER_S: u64 = 31 * 86_400;
/// Most in a second, of what is counted. More would have to be told apart within fractions of a microsecond.
const MAX_TIMES_A_SECOND: u64 = 100_000;

/// What a rate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Requests, pulls, pushes, failures.
    Times,
    /// Bytes.
    Bytes,
}

/// So much in so much time, all of it at once if need be: `100/6h`, `20/s`, `1GiB/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    amount: u64,
    per_s: u64,
    measure: Measure,
}

/// What is asked of a rate: how much must fit, and how much is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// So much must fit, or the answer is no; zero is never refused.
    pub need: u64,
    /// So much is taken where the answer is yes.
    pub take: u64,
}

impl Ask {
    /// One more.
    pub const ONE: Self = Self { need: 1, take: 1 };
    /// Whether anything is left.
    pub const ROOM: Self = Self { need: 1, take: 0 };
    /// Only how things stand.
    pub const LOOK: Self = Self { need: 0, take: 0 };

    /// What has happened already: it is never refused, and may leave a debt.
    pub const fn charge(amount: u64) -> Self {
        Self { need: 0, take: amount }
    }
}

impl Rate {
    /// Reads `AMOUNT/TIME`: a whole number, or a size where it is about bytes; and a number of seconds, minutes, hours or days
    /// (`s`, `m` or `min`, `h`, `d`), one where no number is written.
    pub fn parse(measure: Measure, text: &str) -> Result<Self, TenancyError> {
        let (amount, time) = text.split_once('/').ok_or_else(|| Self::invalid(measure, text))?;
        let amount = match measure {
            Measure::Times if amount.starts_with('+') => return Err(Self::invalid(measure, text)),
            Measure::Times => amount.parse().map_err(|_| Self::invalid(measure, text))?,
            Measure::Bytes => Size::parse(amount)?.0,
        };
        let digits = time.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(time.len());
        let (number, unit) = time.split_at_checked(digits).ok_or_else(|| Self::invalid(measure, text))?;
        let number = if number.is_empty() { Some(1) } else { number.parse::<u64>().ok() };
        let unit = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(Self::invalid(measure, text)),
        };
        let per_s = number.and_then(|number| number.checked_mul(unit)).filter(|per_s| (1..=MAX_PER_S).contains(per_s));
        let per_s = per_s.ok_or_else(|| Self::invalid(measure, text))?;
        let most = match measure {
            Measure::Times => per_s.saturating_mul(MAX_TIMES_A_SECOND),
            Measure::Bytes => MAX_BYTES,
        };
        if !(1..=most).contains(&amount) {
            return Err(TenancyError::Invalid(format!(
                "`{}` lets through nothing, or more than can be counted; write a number from 1 to {most} before the `/`, or off",
                shown(text)
            )));
        }
        Ok(Self { amount, per_s, measure })
    }

    fn invalid(measure: Measure, text: &str) -> TenancyError {
        let (what, example) = match measure {
            Measure::Times => ("a whole number", "100/6h"),
            Measure::Bytes => ("a size", "1GiB/h"),
        };
        TenancyError::Invalid(format!(
            "`{}` is no rate: {what}, `/`, and a time of at most 31 days in s, min, h or d, such as {example}",
            shown(text)
        ))
    }

    /// How much.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// In how many seconds.
    pub fn per_s(&self) -> u64 {
        self.per_s
    }

    /// An equal part of it for each of so many, and at least one.
    #[must_use]
    pub fn share(&self, among: u64) -> Self {
        Self { amount: self.amount.checked_div(among).unwrap_or(self.amount).max(1), ..*self }
    }

    /// So many times as much in the same time.
    #[must_use]
    pub fn times(&self, number: u64) -> Self {
        Self { amount: self.amount.saturating_mul(number), ..*self }
    }

    /// The level after what is asked for, or how many microseconds later it will fit.
    pub fn ask(&self, level: u64, ask: Ask) -> Result<u64, u64> {
        let over = level.saturating_add(self.cost(ask.need)).saturating_sub(self.capacity());
        if ask.need > 0 && over > 0 { Err(over) } else { Ok(level.saturating_add(self.cost(ask.take))) }
    }

    /// Whether what is taken may raise the level beyond the capacity: bytes are charged after they have flowed.
    pub fn has_debt(&self) -> bool {
        self.measure == Measure::Bytes
    }

    /// How much more fits at a level.
    pub fn remaining(&self, level: u64) -> u64 {
        let free = self.capacity().saturating_sub(level);
        match self.interval() {
            Some(interval) => free.checked_div(interval).unwrap_or_default(),
            None => {
                let fits = u128::from(free).saturating_mul(self.amount.into()).checked_div(self.per_us().into());
                fits.and_then(|fits| u64::try_from(fits).ok()).unwrap_or_default()
            }
        }
    }

    /// What so much raises the level by, in microseconds. It is rounded up, so that a limit is never exceeded.
    pub fn cost(&self, amount: u64) -> u64 {
        match self.interval() {
            Some(interval) => amount.saturating_mul(interval),
            None => {
                let exact = u128::from(amount).saturating_mul(self.per_us().into());
                u64::try_from(exact.div_ceil(self.amount.into())).unwrap_or(u64::MAX)
            }
        }
    }

    /// The level at which nothing more fits, in microseconds. The whole amount fits at once, however its parts are rounded.
    pub fn capacity(&self) -> u64 {
        self.interval().map_or(self.per_us(), |interval| interval.saturating_mul(self.amount))
    }

    /// How many whole microseconds one takes; none where it is less than one.
    fn interval(&self) -> Option<u64> {
        (self.amount <= self.per_us()).then(|| self.per_us().div_ceil(self.amount))
    }

    fn per_us(&self) -> u64 {
        self.per_s.saturating_mul(SECOND)
    }

    /// The time, as it is written: `6h`, `s`.
    pub fn time(&self) -> String {
        let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
        let (unit, seconds) =
            units.into_iter().find(|(_, seconds)| self.per_s.is_multiple_of(*seconds)).unwrap_or(("s", 1));
        match self.per_s.checked_div(seconds) {
            Some(1) | None => unit.to_owned(),
            Some(number) => format!("{number}{unit}"),
        }
    }

    /// The amount, as it is written and not rounded: `100`, `1GiB`, `1500`.
    pub fn quantity(&self) -> String {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let whole = UNITS.into_iter().find(|(_, size)| self.amount.is_multiple_of(*size));
        match (self.measure, whole) {
            (Measure::Bytes, Some((unit, size))) => {
                format!("{}{unit}", self.amount.checked_div(size).unwrap_or_default())
            }
            _ => self.amount.to_string(),
        }
    }
}

/// As it is read.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quantity(), self.time())
    }
}

/// Foreign text, bounded and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// What counts as one client address: an IPv4 address, written as IPv6 or not; of IPv6 the /64, all of which one client has.
pub fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}
