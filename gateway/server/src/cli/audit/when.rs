//! Points in time, as people give them.

use crate::duration;
use portcullis_tenancy::Timestamp;
use std::time::Duration;

/// A time, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum When {
    Ago(Duration),
    At(Timestamp),
}

impl When {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(span) = duration::parse(text) {
            return Ok(Self::Ago(span));
        }
        let time = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
        time.map(Self::At).map_err(|_| {
            format!("`{text}` is no time; write 2026-11-27, 2026-11-27T08:00:00Z, or 12h for twelve hours ago")
        })
    }

    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_a_moment_or_a_while_ago() {
        let at =
            |text: &str| When::parse(text).map(|when| when.at("2026-11-27T12:00:00Z".parse().unwrap()).to_string());
        assert_eq!(at("2026-11-26"), Ok("2026-11-26T00:00:00Z".to_owned()));
        assert_eq!(at("2026-11-26T01:02:03+01:00"), Ok("2026-11-26T00:02:03Z".to_owned()));
        assert_eq!(at("12h"), Ok("2026-11-27T00:00:00Z".to_owned()));
        for nonsense in ["", "yesterday", "2026-13-01", "12"] {
            assert!(at(nonsense).unwrap_err().contains("2026-11-27"), "{nonsense}");
        }
    }
}
