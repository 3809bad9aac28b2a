//! What clients are told about limits: `Retry-After`, the `RateLimit` and `RateLimit-Policy` fields of the IETF's draft
//! (draft-ietf-httpapi-ratelimit-headers-10), and Docker Hub's `RateLimit-Limit` and `RateLimit-Remaining`.

use super::{Line, Lines, Name, Of};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_oci::{ErrorCode, ProtocolError};
use portcullis_tenancy::limit::{Rate, client_address};
use std::net::IpAddr;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// How soon there may be a place for one more at once, in seconds: nobody knows.
const PLACE_WAIT_S: u64 = 2;
/// The largest integer of structured fields (RFC 9651): a field with a larger one is ignored as a whole.
const MOST_TOLD: u64 = 999_999_999_999_999;

/// What a client is told that is over a limit.
#[derive(Debug)]
pub struct Limited {
    name: Name,
    message: String,
    wait_s: u64,
    /// The limit: its numbers, as the draft's parameters.
    policy: String,
    pulls: Option<PullsLeft>,
}

/// What is left of a limit on pulls, in Docker Hub's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullsLeft {
    amount: u64,
    window_s: u64,
    remaining: u64,
}

impl Limited {
    pub(super) fn by_rate(line: &Line<'_>, wait: u64) -> Self {
        let (whose, what) = (whose(line.of, line.name), what(line.name));
        let wait_s = seconds(wait);
        let (amount, time) = (line.in_force.quantity(), line.in_force.time());
        let or = if is_guests(line.name) { "log in as one of its robots, or " } else { "" };
        Self {
            name: line.name,
            message: format!("{whose} has had its {amount}{what} per {time}; {or}try again in {wait_s} s"),
            wait_s,
            policy: parameters(&line.in_force, is_bytes(line.name)),
            pulls: is_pulls(line.name).then(|| PullsLeft::of(&line.in_force, 0)),
        }
    }

    pub(super) fn by_count(name: Name, of: Of<'_>, most: u32) -> Self {
        Self {
            name,
            message: format!(
                "{} has {most}{} under way, and may have no more at once; try again in {PLACE_WAIT_S} s",
                whose(of, name),
                what(name)
            ),
            wait_s: PLACE_WAIT_S,
            policy: at_once(most),
            pulls: None,
        }
    }

    /// In the same words whether or not there is such an account.
    pub(super) fn by_failures(name: Name, rate: &Rate, wait: u64) -> Self {
        let wait_s = seconds(wait);
        let whose = if name == Name::LoginFailuresPerAccount { "for this user name" } else { "from this address" };
        Self {
            name,
            message: format!("too many failed logins {whose}; try again in {wait_s} s"),
            wait_s,
            policy: parameters(rate, false),
            pulls: None,
        }
    }

    /// Which limit it is.
    pub fn name(&self) -> Name {
        self.name
    }

    /// What the client is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The refusal, with its headers.
    pub fn tell(&self, headers: &mut HeaderMap) -> ProtocolError {
        let name = self.name.as_str();
        nothing_left(headers, name, &self.policy, self.wait_s);
        if let Some(pulls) = self.pulls {
            pulls.show(headers);
        }
        ProtocolError::new(ErrorCode::TooManyRequests, self.message.clone())
            .with_detail(serde_json::json!({"limit": name, "retry_after_s": self.wait_s}))
    }
}

/// An address has all the requests under way that it may have.
pub fn tell_address_is_busy(most: usize, headers: &mut HeaderMap) {
    nothing_left(headers, "requests-under-way-per-address", &at_once(most), 1);
}

/// The limit of this name has nothing left for so many seconds.
fn nothing_left(headers: &mut HeaderMap, name: &str, policy: &str, wait_s: u64) {
    headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
    put(headers, POLICY, format!("\"{name}\";{policy}"));
    put(headers, STATE, format!("\"{name}\";r=0;t={wait_s}"));
}

impl PullsLeft {
    /// Of the limits on pulls that were asked, the one that is nearest to its end; none where none was.
    pub fn among(lines: &Lines<'_>) -> Option<Self> {
        let pulls = lines.iter().filter(|line| is_pulls(line.name));
        pulls
            .map(|line| Self::of(&line.in_force, line.in_force.remaining(line.level)))
            .min_by_key(|left| left.remaining)
    }

    fn of(rate: &Rate, remaining: u64) -> Self {
        Self { amount: rate.amount(), window_s: rate.per_s(), remaining }
    }

    /// Puts it on an answer.
    pub fn show(&self, headers: &mut HeaderMap) {
        put(headers, LIMIT, format!("{};w={}", self.amount, self.window_s));
        put(headers, REMAINING, format!("{};w={}", self.remaining, self.window_s));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The draft's parameters: quota, window, and the unit where it is not requests.
fn parameters(rate: &Rate, bytes: bool) -> String {
    let unit = if bytes { ";qu=\"content-bytes\"" } else { "" };
    format!("q={};w={}{unit}", rate.amount().min(MOST_TOLD), rate.per_s())
}

/// The same for how many there may be at once.
fn at_once(most: impl std::fmt::Display) -> String {
    format!("q={most};qu=\"concurrent-requests\"")
}

/// Whole seconds, never too few.
fn seconds(wait: u64) -> u64 {
    wait.div_ceil(1_000_000).max(1)
}

fn whose(of: Of<'_>, name: Name) -> String {
    match of {
        Of::Address(address) => format!("your address {}", shown(client_address(address))),
        Of::Robot(robot) => format!("robot {}", robot.username()),
        Of::Project(project) if is_guests(name) => format!("project {}, for all its guests,", project.name),
        Of::Project(project) => format!("project {}", project.name),
        Of::Guest(project, address) => {
            format!("your address {}, as a guest of project {},", shown(client_address(address)), project.name)
        }
    }
}

/// An IPv6 address stands for its network.
fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

/// What a limit counts, after its amount; bytes say it themselves.
fn what(name: Name) -> &'static str {
    match name {
        name if is_pulls(name) => " pulls",
        Name::PushesPerRobot | Name::PushesPerProject => " pushes",
        Name::UploadsPerAddress | Name::UploadsPerProject => " uploads",
        name if is_bytes(name) => "",
        _ => " requests",
    }
}

fn is_pulls(name: Name) -> bool {
    use Name::{GuestPullsPerAddress, GuestPullsPerProject, PullsPerProject, PullsPerRobot};
    matches!(name, PullsPerRobot | PullsPerProject | GuestPullsPerAddress | GuestPullsPerProject)
}

fn is_bytes(name: Name) -> bool {
    use Name::{BytesPerProject, BytesPerRobot, GuestBytesPerAddress, GuestBytesPerProject};
    matches!(name, BytesPerRobot | BytesPerProject | GuestBytesPerAddress | GuestBytesPerProject)
}

fn is_guests(name: Name) -> bool {
    name.as_str().starts_with("guest-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_tenancy::limit::Measure;

    #[test]
    fn what_is_told_are_structured_fields_whatever_the_limit() {
        for (measure, limit, told) in [
            (Measure::Times, "100/6h", "q=100;w=21600"),
            (Measure::Bytes, "1MiB/d", "q=1048576;w=86400;qu=\"content-bytes\""),
            // More than an integer of theirs may be.
            (Measure::Bytes, "1024TiB/31d", "q=999999999999999;w=2678400;qu=\"content-bytes\""),
        ] {
            let rate = Rate::parse(measure, limit).unwrap();
            assert_eq!(parameters(&rate, rate.has_debt()), told);
        }
        let mut headers = HeaderMap::new();
        nothing_left(&mut headers, "pulls-per-project", "q=100;w=21600", 216);
        let field = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap();
        assert_eq!(field(POLICY), "\"pulls-per-project\";q=100;w=21600");
        assert_eq!(field(STATE), "\"pulls-per-project\";r=0;t=216");
        // Not earlier than the effective window's end.
        assert_eq!(field(header::RETRY_AFTER), "216");
    }
}
