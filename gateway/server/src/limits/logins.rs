//! Failed logins: who fails too often has to wait longer each time, by address and by account. A right secret never waits: it
//! has 256 random bits, so that nothing is guessed meanwhile, and nobody can shut the right user out by failing in his name.
//!
//! An account is a user name as it was sent, whether or not there is such a robot; what is looked up and answered is the same.

use super::{Limited, Limits, Name};
use crate::config;
use crate::pipeline::respond::Refusal;
use portcullis_tenancy::limit::{Failures, Keys, client_address};
use std::net::IpAddr;

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

impl Limits {
    /// It failed, which is counted; or whoever failed has to wait, and is told so, which is not. What is right never comes here.
    pub fn login_failed(&self, rules: &config::Logins, attempt: Attempt<'_>, peer: IpAddr) -> Result<(), Refusal> {
        let (now, address, logins) = (self.now(), client_address(peer), &self.logins);
        let (addresses, accounts) = (&logins.addresses, &logins.accounts);
        let by_address =
            rules.per_address.map(|rate| (Name::LoginFailuresPerAddress, addresses, addresses.key(&address), rate));
        let by_account = match attempt {
            Attempt::Password { username } => {
                rules.per_account.map(|rate| (Name::LoginFailuresPerAccount, accounts, accounts.key(&username), rate))
            }
            Attempt::Refresh => None,
        };
        let counted = [by_address, by_account];
        for (name, keys, key, rate) in counted.iter().flatten() {
            let wait = keys.get(*key, now).wait(now);
            if wait > 0 {
                return Err(self.refused(Limited::by_failures(*name, rate, wait)));
            }
        }
        self.metrics.login_failed(attempt);
        for (_, keys, key, rate) in counted.iter().flatten() {
            keys.update(*key, now, |failures| failures.add(rate, rules.longest_delay, now));
        }
        Ok(())
    }
}
