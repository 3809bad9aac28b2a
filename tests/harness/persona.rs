//! The people in the tests: two tenants that must never meet, each with its robots.

use crate::http::Credentials;
use serde::Deserialize;

/// A robot as `robot create --json` tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Robot {
    /// The name to log in with.
    pub username: String,
    /// The secret to log in with.
    pub token: String,
    /// The registry's `host:port`.
    pub registry: String,
    /// The project that it belongs to.
    pub project: String,
}

/// A project with a robot for each role.
#[derive(Clone, Debug)]
pub struct Persona {
    /// The project's name.
    pub project: String,
    /// May pull.
    pub pull: Robot,
    /// May pull and push.
    pub push: Robot,
    /// May delete as well.
    pub admin: Robot,
}

impl Robot {
    /// Its user name and secret.
    pub fn credentials(&self) -> Credentials {
        Credentials::Basic(self.username.clone(), self.token.clone())
    }
}
