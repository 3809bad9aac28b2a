//! Sizes in bytes, as people write and read them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

const UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A size. In settings a number of bytes or a text such as `"500 MiB"` or `"2.5 GiB"`; shown as `2.1 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads `"500 MiB"`: a number with at most three decimals, and B, KiB, MiB, GiB or TiB.
    ///
    /// # Errors
    /// What would have been right.
    pub fn parse(text: &str) -> Result<Bytes, String> {
        let wrong = || format!("{text:?} is no size: write a number of bytes, or such as \"500 MiB\" or \"2.5 GiB\"");
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(wrong)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        if decimals.is_empty() || decimals.len() > 3 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let thousandths: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
        let total = u128::from(whole).saturating_mul(1000).saturating_add(u128::from(thousandths));
        let bytes = total.saturating_mul(u128::from(*unit)).checked_div(1000).unwrap_or_default();
        u64::try_from(bytes).map(Bytes).map_err(|_| wrong())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS.iter().rev().find(|(_, unit)| self.0 >= *unit).unwrap_or(&UNITS[0]);
        if *unit == 1 {
            return write!(f, "{} B", self.0);
        }
        // Rounded down: what is said to be at the limit must not be above it. Whole tenths, so that no float is linked.
        let tenths = u128::from(self.0).saturating_mul(10).checked_div(u128::from(*unit)).unwrap_or_default();
        write!(
            f,
            "{}.{} {name}",
            tenths.checked_div(10).unwrap_or_default(),
            tenths.checked_rem(10).unwrap_or_default()
        )
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"500 MiB\"")
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]{1,3})? *(B|KiB|MiB|GiB|TiB) *$" },
            ],
            "description": "a number of bytes, or a text such as \"500 MiB\"",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_people_read_them() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2_254_857_830, "2.0 GiB"), (2_254_857_831, "2.1 GiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        assert_eq!(Bytes(u64::MAX).to_string(), "16777215.9 TiB");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("12B", 12), ("1 KiB", 1024), (" 2.5 GiB ", 2_684_354_560), ("0.125 MiB", 131_072)] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "12", "GiB", "1 GB", "1. GiB", "1.2345 GiB", "1.2.3 GiB", "-1 GiB", "99999999999 TiB"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_take_both_forms() {
        assert_eq!(serde_json::from_str::<Bytes>("7").unwrap(), Bytes(7));
        assert_eq!(serde_json::from_str::<Bytes>("\"7 KiB\"").unwrap(), Bytes(7168));
        assert!(serde_json::from_str::<Bytes>("-7").is_err());
    }
}
