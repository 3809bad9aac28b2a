//! Failed logins: who fails too often has to wait longer each time, by address and by account. A right secret never waits: it
//! has 256 random bits, so that nothing is guessed meanwhile, and nobody can shut the right user out by failing in his name.
//!
//! An account is a user name as it was sent, whether or not there is such a robot; what is looked up and answered is the same.

use super::{Limited, Limits, Name};
use crate::config;
use crate::pipeline::respond::Refusal;
use portcullis_tenancy::limit::{Failures, Keys, Rate, client_address};
use std::net::IpAddr;
use std::time::Duration;

/// The failures of addresses and accounts.
pub struct Logins {
    addresses: Keys<Failures>,
    accounts: Keys<Failures>,
}

/// What somebody tries to get in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt<'a> {
    /// A user name and a token.
    Password {
        /// The user name, as it was sent; see [`Attempt::password`].
        username: &'a str,
    },
    /// A refresh token that turned out to be none; whose it would be is not known.
    Refresh,
}

impl<'a> Attempt<'a> {
    /// A robot's two spellings are one account.
    pub fn password(username: &'a str) -> Self {
        Self::Password { username: username.strip_prefix("robot$").unwrap_or(username) }
    }
}

impl Logins {
    pub(super) fn new(keys: usize) -> Self {
        Self { addresses: Keys::new(keys), accounts: Keys::new(keys) }
    }

    pub(super) fn counts(&self, now: u64) -> (usize, usize) {
        (self.addresses.count(now), self.accounts.count(now))
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.addresses.forgotten().saturating_add(self.accounts.forgotten())
    }
}

/// One of those whose failures are counted.
#[derive(Clone, Copy)]
pub(super) struct Failing<'a> {
    pub(super) name: Name,
    pub(super) who: Who<'a>,
    /// How many failures cost nothing.
    pub(super) rate: Rate,
}

/// Who fails.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    Address(IpAddr),
    Account(&'a str),
}

/// Who has to wait until he may fail again, and for how many microseconds.
pub(super) type Shut<'a> = Option<(Failing<'a>, u64)>;

impl Limits {
    /// It failed, which is counted; or whoever failed has to wait, and is told so, which is not. What is right never comes here.
    pub async fn login_failed(
        &self,
        rules: &config::Logins,
        attempt: Attempt<'_>,
        peer: IpAddr,
    ) -> Result<(), Refusal> {
        let (who, name) = (Who::Address(client_address(peer)), Name::LoginFailuresPerAddress);
        let by_address = rules.per_address.map(|rate| Failing { name, who, rate });
        let by_account = match attempt {
            Attempt::Password { username } => {
                let (who, name) = (Who::Account(username), Name::LoginFailuresPerAccount);
                rules.per_account.map(|rate| Failing { name, who, rate })
            }
            Attempt::Refresh => None,
        };
        let failing: Vec<Failing<'_>> = by_address.into_iter().chain(by_account).collect();
        let shut = match &self.shared {
            None => self.failed_here(&failing, rules.longest_delay, 1),
            Some(_) if failing.is_empty() => None,
            Some(shared) => match shared.failed(&failing, rules.longest_delay).await {
                Some(shut) => shut,
                None => self.failed_here(&failing, rules.longest_delay, shared.nodes()),
            },
        };
        if let Some((Failing { name, rate, .. }, wait)) = shut {
            return Err(self.refused(Limited::by_failures(name, &rate, wait)));
        }
        self.metrics.login_failed(attempt);
        Ok(())
    }

    /// The same by what this node alone has counted. Where `nodes` count apart, each lets an equal share pass.
    fn failed_here<'a>(&self, failing: &[Failing<'a>], longest: Duration, nodes: u64) -> Shut<'a> {
        let now = self.now();
        let kept = |who: Who<'a>| match who {
            Who::Address(address) => (&self.logins.addresses, self.logins.addresses.key(&address)),
            Who::Account(username) => (&self.logins.accounts, self.logins.accounts.key(&username)),
        };
        for one in failing {
            let (keys, key) = kept(one.who);
            let wait = keys.get(key, now).wait(now);
            if wait > 0 {
                return Some((Failing { rate: one.rate.share(nodes), ..*one }, wait));
            }
        }
        for one in failing {
            let (keys, key) = kept(one.who);
            keys.update(key, now, |failures| failures.add(&one.rate.share(nodes), longest, now));
        }
        None
    }
}
