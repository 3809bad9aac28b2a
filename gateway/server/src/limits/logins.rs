//! Failed logins: who fails too often has to wait longer each time, by address and by account. Who logged in to that account
//! from that address lately does not: nobody can shut the right user out by failing in his name.
//!
//! An account is a user name as it was sent, whether or not there is such a robot; what is looked up and answered is the same.

use super::{Limited, Limits, Name};
use crate::config;
use crate::pipeline::respond::Refusal;
use portcullis_tenancy::limit::{Failures, Keys, PaidOff, client_address};
use std::net::IpAddr;

/// How long an address is known to an account after a login, in microseconds: a day.
const FAMILIAR: u64 = 86_400_000_000;

/// The failures of addresses and accounts, and which of them know each other.
pub struct Logins {
    addresses: Keys<Failures>,
    accounts: Keys<Failures>,
    familiar: Keys<PaidOff>,
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
        Self { addresses: Keys::new(keys), accounts: Keys::new(keys), familiar: Keys::new(keys) }
    }

    pub(super) fn counts(&self, now: u64) -> (usize, usize, usize) {
        (self.addresses.count(now), self.accounts.count(now), self.familiar.count(now))
    }

    pub(super) fn forgotten(&self) -> u64 {
        let of_failures = self.addresses.forgotten().saturating_add(self.accounts.forgotten());
        of_failures.saturating_add(self.familiar.forgotten())
    }
}

impl Limits {
    /// Whether it may be tried now, before anything is looked up. What is refused here is not counted as a failure.
    pub fn may_try(&self, rules: &config::Logins, attempt: Attempt<'_>, peer: IpAddr) -> Result<(), Refusal> {
        let (now, address, logins) = (self.now(), client_address(peer), &self.logins);
        if let Attempt::Password { username } = attempt
            && logins.familiar.get(logins.familiar.key(&(username, address)), now) != PaidOff::default()
        {
            return Ok(());
        }
        if let Some(rate) = &rules.per_address {
            let wait = logins.addresses.get(logins.addresses.key(&address), now).wait(now);
            if wait > 0 {
                return Err(self.refused(Limited::by_failures(Name::LoginFailuresPerAddress, rate, wait)));
            }
        }
        if let (Some(rate), Attempt::Password { username }) = (&rules.per_account, attempt) {
            let wait = logins.accounts.get(logins.accounts.key(&username), now).wait(now);
            if wait > 0 {
                return Err(self.refused(Limited::by_failures(Name::LoginFailuresPerAccount, rate, wait)));
            }
        }
        Ok(())
    }

    /// It failed.
    pub fn login_failed(&self, rules: &config::Logins, attempt: Attempt<'_>, peer: IpAddr) {
        let (now, address, logins) = (self.now(), client_address(peer), &self.logins);
        self.metrics.login_failed(attempt);
        if let Some(rate) = &rules.per_address {
            let key = logins.addresses.key(&address);
            logins.addresses.update(key, now, |failures| failures.add(rate, rules.longest_delay, now));
        }
        if let (Some(rate), Attempt::Password { username }) = (&rules.per_account, attempt) {
            let key = logins.accounts.key(&username);
            logins.accounts.update(key, now, |failures| failures.add(rate, rules.longest_delay, now));
        }
    }

    /// It was right: this address is known to the account from now on.
    pub fn login_succeeded(&self, attempt: Attempt<'_>, peer: IpAddr) {
        let (now, familiar) = (self.now(), &self.logins.familiar);
        if let Attempt::Password { username } = attempt {
            let key = familiar.key(&(username, client_address(peer)));
            familiar.update(key, now, |state| state.0 = now.saturating_add(FAMILIAR));
        }
    }
}
