//! Windows in which nothing changes.

mod instant;

use instant::{Instant, Offset, WEEK_S, WeekTime};
use portcullis_policy_sdk::prelude::*;

/// The windows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Windows with a date, such as the end of a year.
    windows: Vec<Window>,
    /// Windows of every week, such as week-ends.
    weekly: Vec<Weekly>,
    /// Where `weekly` is meant, as the difference to UTC: `+02:00`. It is fixed: summer time does not move it.
    utc_offset: Offset,
    /// Patterns of robots that may go on: their user names (`acme+ci`) or their names within the project (`ci`).
    except_robots: Globs,
    /// Patterns of the repositories where this holds.
    repositories: Globs,
    /// Whether deleting is refused, too.
    deletes: bool,
}

/// A window with a date.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Window {
    /// Its first instant, as RFC 3339 writes it: `2026-12-20T00:00:00Z`.
    start: Instant,
    /// The first instant after it.
    end: Instant,
    /// Why; it is told to who is refused.
    #[serde(default)]
    reason: String,
}

/// A window of every week.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Weekly {
    /// Its first minute: `Fri 16:00`.
    start: WeekTime,
    /// The first minute after it: `Mon 06:00`. It may be in the next week.
    end: WeekTime,
    /// Why; it is told to who is refused.
    #[serde(default)]
    reason: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            windows: Vec::new(),
            weekly: Vec::new(),
            utc_offset: Offset::default(),
            except_robots: Globs::default(),
            repositories: Globs::all(),
            deletes: true,
        }
    }
}

struct ChangeFreeze(Settings);

impl Policy for ChangeFreeze {
    type Settings = Settings;
    const NAME: &'static str = "change-freeze";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Request, Hook::ManifestPush];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let mut problems = Problems::none();
        if settings.windows.is_empty() && settings.weekly.is_empty() {
            problems.add("", "name at least one window, in windows or in weekly");
        }
        for (number, window) in settings.windows.iter().enumerate() {
            if window.end <= window.start {
                problems.add(format!("windows[{number}].end"), "a window has to end after it begins");
            }
        }
        for (number, window) in settings.weekly.iter().enumerate() {
            if window.end == window.start {
                problems.add(format!("weekly[{number}].end"), "a window has to end at another time than it begins");
            }
        }
        problems.or(ChangeFreeze(settings))
    }

    fn on_request(&self, context: &Context, request: &Request) -> Decision {
        let operation = request.operation;
        let judged = operation.is_push() || (self.0.deletes && operation.is_delete());
        if !judged {
            return Decision::Abstain;
        }
        self.judge(context, request.target.as_ref())
    }

    fn on_manifest_push(&self, context: &Context, target: &Target, _: &Manifest) -> Decision {
        self.judge(context, Some(target))
    }
}

policy!(ChangeFreeze);

impl ChangeFreeze {
    fn judge(&self, context: &Context, target: Option<&Target>) -> Decision {
        let settings = &self.0;
        let elsewhere = target.is_some_and(|target| !settings.repositories.matches(&target.repository));
        if elsewhere || context.is_robot(&settings.except_robots) {
            return Decision::Abstain;
        }
        let now = Instant::from_ms(context.now_ms);
        let Some((end, reason)) = self.frozen(now) else { return Decision::Abstain };
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        deny(format!("changes are frozen until {}{why}", end.shown(settings.utc_offset)))
    }

    /// When the window ends that now lies in, and why it is one. Of several, the one that ends last.
    fn frozen(&self, now: Instant) -> Option<(Instant, &str)> {
        let settings = &self.0;
        let dated = settings.windows.iter().filter(|window| window.start <= now && now < window.end);
        let dated = dated.map(|window| (window.end, window.reason.as_str()));
        let weekly = settings.weekly.iter().filter_map(|window| {
            let since = now.into_week(settings.utc_offset).since(window.start);
            let length = window.end.since(window.start);
            let left = length.checked_sub(since).filter(|&left| left > 0 && since < WEEK_S)?;
            Some((now.later(left), window.reason.as_str()))
        });
        dated.chain(weekly).max_by_key(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<ChangeFreeze>("cases");
    }
}
