//! Failed logins, counted together: a guesser has no more tries for there being more nodes.

use super::super::logins::{Failing, Shut, Who};
use super::{Link, MOST, Shared, SharedError};
use portcullis_tenancy::limit::Failures;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::timeout;

impl Shared {
    /// Counts a failed login; none where the store does not answer.
    pub(in super::super) async fn failed<'a>(&self, failing: &[Failing<'a>], longest: Duration) -> Option<Shut<'a>> {
        let link = self.link.load_full()?;
        match self.call_failed(&link, failing, longest).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.lose(&link, &error);
                None
            }
        }
    }

    async fn call_failed<'a>(
        &self,
        link: &Link,
        failing: &[Failing<'a>],
        longest: Duration,
    ) -> Result<Shut<'a>, SharedError> {
        let mut call = self.failed.prepare_invoke();
        call.arg(Failures::longest(longest));
        for one in failing {
            let rate = &one.rate;
            call.key(self.key_of(one)).arg(rate.cost(1).min(MOST)).arg(rate.capacity().min(MOST));
            call.arg(Failures::most(rate).min(MOST));
        }
        let mut connection = link.connection.clone();
        let answer = timeout(self.timeout, call.invoke_async::<(usize, u64)>(&mut connection)).await;
        let (who, wait) = answer.map_err(|_| SharedError::Late(self.timeout))??;
        match who.checked_sub(1) {
            None => Ok(None),
            Some(number) => failing.get(number).map(|one| Some((*one, wait))).ok_or(SharedError::Odd),
        }
    }

    /// What was sent as a user name may be anything, a secret as well: it is kept as its hash.
    fn key_of(&self, failing: &Failing<'_>) -> String {
        let mut key = format!("{}{}:{}:", self.prefix, failing.name.as_str(), failing.rate);
        match failing.who {
            Who::Address(address) => {
                let _ = write!(key, "{address}");
            }
            Who::Account(username) => {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, username.as_bytes());
                for byte in hash.as_ref() {
                    let _ = write!(key, "{byte:02x}");
                }
            }
        }
        key
    }
}
