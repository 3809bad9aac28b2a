//! What a project or a robot may do other than the configuration says. It is kept as one line: `pulls=1000/6h bytes=off`.

use super::{Measure, Rate};
use crate::{ProjectId, RobotId, TenancyError};
use std::fmt;

/// One limit of one owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// What the configuration says.
    #[default]
    Default,
    /// No limit.
    Off,
    /// This one.
    At(T),
}

impl<T: Copy> Setting<T> {
    /// What is in force, where the configuration says `default`.
    pub fn over(&self, default: Option<T>) -> Option<T> {
        match self {
            Self::Default => default,
            Self::Off => None,
            Self::At(limit) => Some(*limit),
        }
    }

    /// Reads `default`, `off`, or what `parse` reads.
    pub fn parse(text: &str, parse: impl FnOnce(&str) -> Result<T, TenancyError>) -> Result<Self, TenancyError> {
        match text {
            "default" => Ok(Self::Default),
            "off" => Ok(Self::Off),
            limit => parse(limit).map(Self::At),
        }
    }
}

/// As it is read.
impl<T: fmt::Display> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Off => f.write_str("off"),
            Self::At(limit) => limit.fmt(f),
        }
    }
}

/// The limits of one project or robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Requests of any kind.
    pub requests: Setting<Rate>,
    /// Manifests that are fetched.
    pub pulls: Setting<Rate>,
    /// Manifests that are pushed.
    pub pushes: Setting<Rate>,
    /// Bytes of bodies, both ways.
    pub bytes: Setting<Rate>,
    /// Requests at once.
    pub under_way: Setting<u32>,
    /// Uploads at once; of a project alone.
    pub uploads: Setting<u32>,
}

/// What is to be changed about limits; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// See [`Overrides`].
    pub requests: Option<Setting<Rate>>,
    /// See [`Overrides`].
    pub pulls: Option<Setting<Rate>>,
    /// See [`Overrides`].
    pub pushes: Option<Setting<Rate>>,
    /// See [`Overrides`].
    pub bytes: Option<Setting<Rate>>,
    /// See [`Overrides`].
    pub under_way: Option<Setting<u32>>,
    /// See [`Overrides`].
    pub uploads: Option<Setting<u32>>,
}

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOwner<'a> {
    /// A project's, which all who use its repositories share.
    Project(&'a ProjectId),
    /// A robot's own.
    Robot(&'a RobotId),
}

/// The names by which limits are kept.
const NAMES: [&str; 6] = ["requests", "pulls", "pushes", "bytes", "under_way", "uploads"];

impl Overrides {
    /// The words of such a line that this version has no limit for: a newer one wrote them.
    pub fn unknown(line: &str) -> impl Iterator<Item = &str> {
        line.split_whitespace().filter(|word| !NAMES.contains(&word.split('=').next().unwrap_or_default()))
    }

    /// Reads the line in which they are kept. What it has [`Overrides::unknown`] is skipped: while versions are side by side, a
    /// limit that only the newer ones know must not make its owner unreadable to the others.
    pub fn parse(line: &str) -> Result<Self, TenancyError> {
        let mut overrides = Self::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let rate = |measure| Setting::parse(value, |text| Rate::parse(measure, text));
            match name {
                "requests" => overrides.requests = rate(Measure::Times)?,
                "pulls" => overrides.pulls = rate(Measure::Times)?,
                "pushes" => overrides.pushes = rate(Measure::Times)?,
                "bytes" => overrides.bytes = rate(Measure::Bytes)?,
                "under_way" => overrides.under_way = Setting::parse(value, number)?,
                "uploads" => overrides.uploads = Setting::parse(value, number)?,
                _ => {}
            }
        }
        Ok(overrides)
    }

    /// The same after a change.
    #[must_use]
    pub fn changed(self, change: &Change) -> Self {
        Self {
            requests: change.requests.unwrap_or(self.requests),
            pulls: change.pulls.unwrap_or(self.pulls),
            pushes: change.pushes.unwrap_or(self.pushes),
            bytes: change.bytes.unwrap_or(self.bytes),
            under_way: change.under_way.unwrap_or(self.under_way),
            uploads: change.uploads.unwrap_or(self.uploads),
        }
    }
}

/// Reads how many there may be at once.
fn number(text: &str) -> Result<u32, TenancyError> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        TenancyError::Invalid(format!("`{}` is no number: write a whole number above 0, or off", super::shown(text)))
    })
}

/// What differs from the configuration alone, in the order of [`Overrides`]' fields.
impl fmt::Display for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joint = "";
        let rates =
            [("requests", self.requests), ("pulls", self.pulls), ("pushes", self.pushes), ("bytes", self.bytes)];
        for (name, setting) in rates.into_iter().filter(|(_, setting)| *setting != Setting::Default) {
            write!(f, "{joint}{name}={setting}")?;
            joint = " ";
        }
        let numbers = [("under_way", self.under_way), ("uploads", self.uploads)];
        for (name, setting) in numbers.into_iter().filter(|(_, setting)| *setting != Setting::Default) {
            write!(f, "{joint}{name}={setting}")?;
            joint = " ";
        }
        Ok(())
    }
}
