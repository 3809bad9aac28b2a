//! Instants and times of the week. No clock is read: what time it is, the question says.

use portcullis_policy_sdk::prelude::*;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserializer;
use std::borrow::Cow;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// Seconds of a week.
pub const WEEK_S: i64 = 604_800;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(i64);

/// Seconds since Monday at midnight, where the settings mean it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeekTime(i64);

/// The difference to UTC in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(i64);

impl Instant {
    /// What the contract's `now-ms` says.
    pub fn from_ms(ms: u64) -> Instant {
        Instant(i64::try_from(ms.checked_div(1000).unwrap_or_default()).unwrap_or(i64::MAX))
    }

    /// Reads RFC 3339 with whole seconds; fractions are dropped.
    pub fn parse(text: &str) -> Result<Instant, String> {
        let wrong = || format!("{text:?} is no instant such as 2026-12-20T08:00:00Z or 2026-12-20T08:00:00+01:00");
        let (date, time) = text.split_once(['T', 't', ' ']).ok_or_else(wrong)?;
        let zone = time.find(['Z', 'z', '+', '-']).ok_or_else(wrong)?;
        let (time, zone) = time.split_at_checked(zone).ok_or_else(wrong)?;
        let offset = if zone.eq_ignore_ascii_case("z") { Offset::default() } else { Offset::parse(zone)? };
        let time = match time.split_once('.') {
            Some((time, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) => time,
            Some(_) => return Err(wrong()),
            None => time,
        };
        let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or_else(wrong)?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).ok_or_else(wrong)?;
        if hour > 23
            || minute > 59
            || second > 60
            || !(1..=12).contains(&month)
            || !(1..=days_of(year, month)).contains(&day)
        {
            return Err(wrong());
        }
        let seconds = sum(&[(days(year, month, day), DAY_S), (hour, HOUR_S), (minute, MINUTE_S), (second, 1)]);
        Ok(Instant(seconds.saturating_sub(offset.0)))
    }

    /// So many seconds later.
    pub fn later(self, seconds: i64) -> Instant {
        Instant(self.0.saturating_add(seconds))
    }

    /// The time of the week.
    pub fn into_week(self, offset: Offset) -> WeekTime {
        // 1970 began on a Thursday.
        let since_monday = self.0.saturating_add(offset.0).saturating_add(DAY_S.saturating_mul(3));
        WeekTime(since_monday.rem_euclid(WEEK_S))
    }

    /// As people read it: `2026-12-27 06:00 +01:00`.
    pub fn shown(self, offset: Offset) -> String {
        let local = self.0.saturating_add(offset.0);
        let (year, month, day) = date(local.div_euclid(DAY_S));
        let of_day = local.rem_euclid(DAY_S);
        let (hour, minute) = (of_day.div_euclid(HOUR_S), of_day.rem_euclid(HOUR_S).div_euclid(MINUTE_S));
        let zone = if offset.0 == 0 {
            "UTC".to_owned()
        } else {
            let sign = if offset.0 < 0 { '-' } else { '+' };
            let size = offset.0.saturating_abs();
            format!("{sign}{:02}:{:02}", size.div_euclid(HOUR_S), size.rem_euclid(HOUR_S).div_euclid(MINUTE_S))
        };
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} {zone}")
    }
}

impl WeekTime {
    /// Reads `Fri 16:00`.
    pub fn parse(text: &str) -> Result<WeekTime, String> {
        let wrong = || format!("{text:?} is no time of the week such as \"Fri 16:00\"");
        let (day, time) = text.split_once(' ').ok_or_else(wrong)?;
        let day = (0_i64..).zip(DAYS).find(|(_, name)| name.eq_ignore_ascii_case(day)).ok_or_else(wrong)?.0;
        let [hour, minute] = numbers(time, ':', [2, 2]).ok_or_else(wrong)?;
        if hour > 24 || minute > 59 || (hour == 24 && minute > 0) {
            return Err(wrong());
        }
        Ok(WeekTime(sum(&[(day, DAY_S), (hour, HOUR_S), (minute, MINUTE_S)]).rem_euclid(WEEK_S)))
    }

    /// Seconds since the last time that it was `start`.
    pub fn since(self, start: WeekTime) -> i64 {
        self.0.saturating_sub(start.0).rem_euclid(WEEK_S)
    }
}

impl Offset {
    /// Reads `+02:00`.
    pub fn parse(text: &str) -> Result<Offset, String> {
        let wrong = || format!("{text:?} is no difference to UTC such as +02:00");
        let (sign, rest) = match text.split_at_checked(1) {
            Some(("+", rest)) => (1, rest),
            Some(("-", rest)) => (-1, rest),
            _ => return Err(wrong()),
        };
        let [hour, minute] = numbers(rest, ':', [2, 2]).ok_or_else(wrong)?;
        if hour > 23 || minute > 59 {
            return Err(wrong());
        }
        Ok(Offset(sum(&[(hour, HOUR_S), (minute, MINUTE_S)]).saturating_mul(sign)))
    }
}

/// Numbers of exactly so many digits.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(between).collect();
    let fits = |(part, &digits): (&&str, &usize)| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() != N || !parts.iter().zip(&digits).all(fits) {
        return None;
    }
    parts.into_iter().map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>()?.try_into().ok()
}

fn sum(parts: &[(i64, i64)]) -> i64 {
    parts.iter().fold(0, |sum: i64, (count, seconds)| sum.saturating_add(count.saturating_mul(*seconds)))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// Days since 1970 of a date, counted with years that begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let early = i64::from(month <= 2);
    let year = year.saturating_sub(early);
    let month = month.saturating_add(9).rem_euclid(12);
    let of_year = month.saturating_mul(153).saturating_add(2).div_euclid(5).saturating_add(day).saturating_sub(1);
    let leaps = year.div_euclid(4).saturating_sub(year.div_euclid(100)).saturating_add(year.div_euclid(400));
    year.saturating_mul(365).saturating_add(leaps).saturating_add(of_year).saturating_sub(719_468)
}

/// The date of a day since 1970.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day.saturating_add(719_468);
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = of_era
        .saturating_sub(of_era.div_euclid(1_460))
        .saturating_add(of_era.div_euclid(36_524))
        .saturating_sub(of_era.div_euclid(146_096))
        .div_euclid(365);
    let before = sum(&[(year_of_era, 365), (year_of_era.div_euclid(4), 1), (year_of_era.div_euclid(100), -1)]);
    let of_year = of_era.saturating_sub(before);
    let month = of_year.saturating_mul(5).saturating_add(2).div_euclid(153);
    let day = of_year.saturating_sub(month.saturating_mul(153).saturating_add(2).div_euclid(5)).saturating_add(1);
    let month = month.saturating_add(2).rem_euclid(12).saturating_add(1);
    let year = era.saturating_mul(400).saturating_add(year_of_era).saturating_add(i64::from(month <= 2));
    (year, month, day)
}

macro_rules! in_settings {
    ($($type:ident: $description:literal,)+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                $type::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description })
            }

            fn inline_schema() -> bool {
                true
            }
        }
    )+};
}

in_settings! {
    Instant: "an instant such as 2026-12-20T08:00:00+01:00",
    WeekTime: "a time of the week such as Fri 16:00",
    Offset: "a difference to UTC such as +02:00",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_shown() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-23T12:00:00+01:00", 1_795_431_600),
            ("2026-11-23T12:00:00.999-00:30", 1_795_437_000),
            ("1969-12-31T00:00:00Z", -86_400),
        ] {
            assert_eq!(Instant::parse(text), Ok(Instant(seconds)), "{text}");
        }
        assert_eq!(Instant(951_868_799).shown(Offset(0)), "2000-02-29 23:59 UTC");
        assert_eq!(Instant(951_868_799).shown(Offset(5400)), "2000-03-01 01:29 +01:30");
        assert_eq!(Instant(0).shown(Offset(-3600)), "1969-12-31 23:00 -01:00");
    }

    #[test]
    fn every_day_is_found_again() {
        for day in (-200_000..200_000).step_by(7) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-12-20",
            "2026-12-20T08:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-12-20T24:00:00Z",
            "2026-12-20T08:00:00",
            "2026-12-20T08:00:00+1:00",
            "2026-12-20T08:00:00.Z",
        ] {
            assert!(Instant::parse(text).is_err(), "{text}");
        }
        for text in ["", "Fri", "Friday 16:00", "Fri 16", "Fri 25:00", "Fri 24:01", "Fri 16:60"] {
            assert!(WeekTime::parse(text).is_err(), "{text}");
        }
        for text in ["", "02:00", "+2:00", "+24:00", "Z"] {
            assert!(Offset::parse(text).is_err(), "{text}");
        }
    }
}
