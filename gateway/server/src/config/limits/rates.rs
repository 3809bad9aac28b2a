//! How often and how much, of whom: what is in force where no command says otherwise.

use super::super::reader::Section;
use portcullis_tenancy::limit::{Measure, Rate, Setting};
use std::time::Duration;

/// Rates; none is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// `requests_per_address`: before anything else is looked at.
    pub requests_per_address: Option<Rate>,
    /// `requests_per_robot`
    pub requests_per_robot: Option<Rate>,
    /// `requests_per_project`
    pub requests_per_project: Option<Rate>,
    /// `pulls_per_robot`: GET of a manifest.
    pub pulls_per_robot: Option<Rate>,
    /// `pulls_per_project`
    pub pulls_per_project: Option<Rate>,
    /// `pushes_per_robot`: PUT of a manifest.
    pub pushes_per_robot: Option<Rate>,
    /// `pushes_per_project`
    pub pushes_per_project: Option<Rate>,
    /// `bytes_per_robot`: of bodies, both ways together.
    pub bytes_per_robot: Option<Rate>,
    /// `bytes_per_project`
    pub bytes_per_project: Option<Rate>,
    /// `requests_under_way_per_robot`: on each node, as all that is counted at once.
    pub under_way_per_robot: Option<u32>,
    /// `requests_under_way_per_project`, as it is written; see [`super::super::Config::under_way_per_project`].
    pub under_way_per_project: Setting<u32>,
    /// `uploads_per_address`: requests under way that bring a part of a blob.
    pub uploads_per_address: Option<u32>,
    /// `uploads_per_project`
    pub uploads_per_project: Option<u32>,
    /// What failed logins cost.
    pub logins: Logins,
}

/// What failed logins cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    /// `login_failures_per_address`: that cost nothing.
    pub per_address: Option<Rate>,
    /// `login_failures_per_account`: that cost nothing.
    pub per_account: Option<Rate>,
    /// `login_delay_max_s`: longest wait until the next try.
    pub longest_delay: Duration,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Rates> {
    let times = Measure::Times;
    let requests_per_address = rate(section, "requests_per_address", times, Some("6000/10s"));
    let requests_per_robot = rate(section, "requests_per_robot", times, None);
    let requests_per_project = rate(section, "requests_per_project", times, None);
    let pulls_per_robot = rate(section, "pulls_per_robot", times, None);
    let pulls_per_project = rate(section, "pulls_per_project", times, None);
    let pushes_per_robot = rate(section, "pushes_per_robot", times, None);
    let pushes_per_project = rate(section, "pushes_per_project", times, None);
    let bytes_per_robot = rate(section, "bytes_per_robot", Measure::Bytes, None);
    let bytes_per_project = rate(section, "bytes_per_project", Measure::Bytes, None);
    let under_way_per_robot = at_once(section, "requests_under_way_per_robot", 0);
    let is_written = section.has("requests_under_way_per_project");
    let under_way_per_project = at_once(section, "requests_under_way_per_project", 96);
    let uploads_per_address = at_once(section, "uploads_per_address", 128);
    let uploads_per_project = at_once(section, "uploads_per_project", 512);
    let logins = Logins {
        per_address: rate(section, "login_failures_per_address", times, Some("100/10min")),
        per_account: rate(section, "login_failures_per_account", times, Some("10/10min")),
        longest_delay: section.seconds("login_delay_max_s", 60, 1..=3600, "who mistyped has to wait for so long"),
    };
    Some(Rates {
        requests_per_address,
        requests_per_robot,
        requests_per_project,
        pulls_per_robot,
        pulls_per_project,
        pushes_per_robot,
        pushes_per_project,
        bytes_per_robot,
        bytes_per_project,
        under_way_per_robot: under_way_per_robot?,
        under_way_per_project: match under_way_per_project? {
            _ if !is_written => Setting::Default,
            None => Setting::Off,
            Some(most) => Setting::At(most),
        },
        uploads_per_address: uploads_per_address?,
        uploads_per_project: uploads_per_project?,
        logins,
    })
}

/// `"100/6h"`, or `"off"`.
fn rate(section: &mut Section<'_>, key: &'static str, measure: Measure, default: Option<&str>) -> Option<Rate> {
    let parse = |text: &str| match text {
        "off" => Ok(None),
        text => Rate::parse(measure, text).map(Some).map_err(|error| error.to_string()),
    };
    let example = match measure {
        Measure::Times => "100/6h",
        Measure::Bytes => "1GiB/h",
    };
    let written = section.string(key, example, parse);
    written.unwrap_or_else(|| default.and_then(|default| Rate::parse(measure, default).ok()))
}

/// A number; 0 is no limit.
fn at_once(section: &mut Section<'_>, key: &'static str, default: u64) -> Option<Option<u32>> {
    let number: Option<u32> = section.number(key, default, 0..=1_000_000, "each holds a connection; 0 is no limit");
    number.map(|number| (number > 0).then_some(number))
}
