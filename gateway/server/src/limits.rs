//! How often and how much clients may ask: rates by address, robot and project, requests and uploads at once, failed logins.
//!
//! The rules are `tenancy::limit`'s; here are the clock, the keys, and the store that nodes share. What a limit is asked for is
//! all taken or none of it: a request that one of several limits refuses has taken nothing of the others. Only the limit by
//! address is by itself: it is asked before anything else is looked at, and asking is what it counts.

mod at_once;
mod logins;
mod metrics;
mod nodes;
mod shared;
mod tab;
mod told;

pub use at_once::Place;
pub use logins::Attempt;
pub use metrics::LimitMetrics;
pub use nodes::show_life;
pub use shared::{Shared, probe};
pub use tab::Tab;
pub use told::{Limited, PullsLeft, tell_address_is_busy};

use crate::app::App;
use crate::config;
use crate::pipeline::respond::Refusal;
use at_once::AtOnce;
use logins::Logins;
use portcullis_tenancy::limit::{Ask, Key, Keys, PaidOff, Rate, client_address};
use portcullis_tenancy::{Project, Robot};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Most limits that are asked at once: for requests, pulls or pushes, and bytes, of a robot, of a guest and of all guests.
const MOST: usize = 9;

/// What one guest of a project may do, all guests of it may do so many times together.
pub const GUESTS: u64 = 10;

/// All limits of this node.
pub struct Limits {
    born: Instant,
    addresses: Keys<PaidOff>,
    owners: Keys<PaidOff>,
    guests: Keys<PaidOff>,
    at_once: AtOnce,
    logins: Logins,
    shared: Option<Arc<Shared>>,
    /// What is counted.
    pub metrics: LimitMetrics,
}

/// A limit by its name, as metrics and clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// `requests-per-address`
    RequestsPerAddress,
    /// `requests-per-robot`
    RequestsPerRobot,
    /// `requests-per-project`
    RequestsPerProject,
    /// `pulls-per-robot`
    PullsPerRobot,
    /// `pulls-per-project`
    PullsPerProject,
    /// `pushes-per-robot`
    PushesPerRobot,
    /// `pushes-per-project`
    PushesPerProject,
    /// `bytes-per-robot`
    BytesPerRobot,
    /// `bytes-per-project`
    BytesPerProject,
    /// `guest-requests-per-address`
    GuestRequestsPerAddress,
    /// `guest-requests-per-project`
    GuestRequestsPerProject,
    /// `guest-pulls-per-address`
    GuestPullsPerAddress,
    /// `guest-pulls-per-project`
    GuestPullsPerProject,
    /// `guest-bytes-per-address`
    GuestBytesPerAddress,
    /// `guest-bytes-per-project`
    GuestBytesPerProject,
    /// `requests-under-way-per-robot`
    UnderWayPerRobot,
    /// `requests-under-way-per-project`
    UnderWayPerProject,
    /// `guest-requests-under-way-per-project`
    GuestUnderWayPerProject,
    /// `uploads-per-address`
    UploadsPerAddress,
    /// `uploads-per-project`
    UploadsPerProject,
    /// `login-failures-per-address`
    LoginFailuresPerAddress,
    /// `login-failures-per-account`
    LoginFailuresPerAccount,
}

impl Name {
    /// In lower case, joined by `-`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerAddress => "requests-per-address",
            Self::RequestsPerRobot => "requests-per-robot",
            Self::RequestsPerProject => "requests-per-project",
            Self::PullsPerRobot => "pulls-per-robot",
            Self::PullsPerProject => "pulls-per-project",
            Self::PushesPerRobot => "pushes-per-robot",
            Self::PushesPerProject => "pushes-per-project",
            Self::BytesPerRobot => "bytes-per-robot",
            Self::BytesPerProject => "bytes-per-project",
            Self::GuestRequestsPerAddress => "guest-requests-per-address",
            Self::GuestRequestsPerProject => "guest-requests-per-project",
            Self::GuestPullsPerAddress => "guest-pulls-per-address",
            Self::GuestPullsPerProject => "guest-pulls-per-project",
            Self::GuestBytesPerAddress => "guest-bytes-per-address",
            Self::GuestBytesPerProject => "guest-bytes-per-project",
            Self::UnderWayPerRobot => "requests-under-way-per-robot",
            Self::UnderWayPerProject => "requests-under-way-per-project",
            Self::GuestUnderWayPerProject => "guest-requests-under-way-per-project",
            Self::UploadsPerAddress => "uploads-per-address",
            Self::UploadsPerProject => "uploads-per-project",
            Self::LoginFailuresPerAddress => "login-failures-per-address",
            Self::LoginFailuresPerAccount => "login-failures-per-account",
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    /// A client address's.
    Address(IpAddr),
    /// A robot's.
    Robot(&'a Robot),
    /// A project's.
    Project(&'a Project),
    /// An address's from which a project is used without a grant on it.
    Guest(&'a Project, IpAddr),
}

/// One limit that is asked.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// Its name.
    pub name: Name,
    /// Whose it is.
    pub of: Of<'a>,
    /// How much it lets through. What was taken of another rate does not count: a limit that is changed begins anew.
    pub rate: Rate,
    /// How much of that this node gives out.
    pub in_force: Rate,
    /// What is asked of it.
    pub ask: Ask,
    /// The level afterwards, once it was asked.
    pub level: u64,
}

/// The limits that are asked about one request.
#[derive(Default)]
pub struct Lines<'a>([Option<Line<'a>>; MOST]);

impl<'a> Lines<'a> {
    /// Asks one more, where it is in force.
    pub fn add(&mut self, name: Name, of: Of<'a>, rate: Option<Rate>, ask: Ask) {
        let Some(rate) = rate else { return };
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(Line { name, of, rate, in_force: rate, ask, level: 0 });
        }
    }

    /// Those that are asked.
    pub fn iter(&self) -> impl Iterator<Item = &Line<'a>> {
        self.0.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Line<'a>> {
        self.0.iter_mut().flatten()
    }
}

/// A limit that says no, and how many microseconds later it will not.
pub struct Over<'a> {
    line: Line<'a>,
    wait: u64,
}

// A charge is never refused.
fn charge_here(keys: &Keys<PaidOff>, key: Key, now: u64, in_force: &Rate, ask: Ask) {
    keys.update(key, now, |state| {
        if let Ok(level) = in_force.ask(state.0.saturating_sub(now), ask) {
            state.0 = now.saturating_add(level);
        }
    });
}

impl Limits {
    /// With room for what the configuration says, and nothing counted yet.
    pub fn new(config: &config::Limits, shared: Option<Arc<Shared>>) -> Self {
        Self {
            born: Instant::now(),
            addresses: Keys::new(config.keys),
            owners: Keys::new(config.keys),
            guests: Keys::new(config.keys),
            at_once: AtOnce::default(),
            logins: Logins::new(config.keys),
            metrics: LimitMetrics::new(shared.is_some()),
            shared,
        }
    }

    /// Takes what is asked for, all of it, or says which limit is in the way.
    pub async fn ask(&self, lines: &mut Lines<'_>) -> Result<(), Refusal> {
        if lines.iter().next().is_none() {
            return Ok(());
        }
        let answer = match self.shared.as_ref() {
            None => self.ask_here(lines, 1),
            Some(shared) => match shared.ask(lines).await {
                Some(answer) => answer,
                None => self.ask_here(lines, shared.nodes()),
            },
        };
        answer.map_err(|Over { line, wait }| self.refused(Limited::by_rate(&line, wait)))
    }

    /// The same by what this node alone has counted. Where `nodes` count apart, each gives out an equal share.
    fn ask_here<'a>(&self, lines: &mut Lines<'a>, nodes: u64) -> Result<(), Over<'a>> {
        let now = self.now();
        let mut over = None;
        let mut taken: usize = 0;
        for line in lines.iter_mut() {
            line.in_force = line.rate.share(nodes);
            let (keys, key) = self.place(line);
            let asked = keys.update(key, now, |state| {
                let level = line.in_force.ask(state.0.saturating_sub(now), line.ask)?;
                state.0 = now.saturating_add(level);
                Ok(level)
            });
            match asked {
                Ok(level) => line.level = level,
                Err(wait) => {
                    over = Some(Over { line: *line, wait });
                    break;
                }
            }
            taken = taken.saturating_add(1);
        }
        let Some(over) = over else { return Ok(()) };
        for line in lines.iter().take(taken) {
            let (keys, key) = self.place(line);
            keys.update(key, now, |state| state.0 = state.0.saturating_sub(line.in_force.cost(line.ask.take)));
        }
        Err(over)
    }

    /// Charges what has flowed already. It is counted here at once, or by the shared store a moment later.
    fn charge(app: &Arc<App>, name: Name, of: Of<'_>, rate: Rate, amount: u64) {
        let (limits, ask) = (&app.limits, Ask::charge(amount));
        let (_, key) = limits.place(&Line { name, of, rate, in_force: rate, ask, level: 0 });
        let room: fn(&Self) -> &Keys<PaidOff> = match of {
            Of::Address(_) => |limits| &limits.addresses,
            Of::Robot(_) | Of::Project(_) => |limits| &limits.owners,
            Of::Guest(..) => |limits| &limits.guests,
        };
        let here = {
            let app = Arc::clone(app);
            move |nodes| charge_here(room(&app.limits), key, app.limits.now(), &rate.share(nodes), ask)
        };
        match &limits.shared {
            Some(shared) => shared.charge((name, of, rate), amount, here),
            None => here(1),
        }
    }

    /// Counts a refusal, and makes it one.
    fn refused(&self, limited: Limited) -> Refusal {
        self.metrics.limited(limited.name());
        Refusal::Limited(Box::new(limited))
    }

    fn place(&self, line: &Line<'_>) -> (&Keys<PaidOff>, Key) {
        let (name, rate) = (line.name, line.rate);
        match line.of {
            Of::Address(address) => (&self.addresses, self.addresses.key(&(name, rate, client_address(address)))),
            Of::Robot(robot) => (&self.owners, self.owners.key(&(name, rate, &robot.id))),
            Of::Project(project) => (&self.owners, self.owners.key(&(name, rate, &project.id))),
            Of::Guest(project, address) => {
                (&self.guests, self.guests.key(&(name, rate, &project.id, client_address(address))))
            }
        }
    }

    /// Microseconds since this node began to count; never zero.
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }
}
