//! A whole answer, and what tests ask of it.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use std::fmt;

/// A whole answer.
#[derive(Clone)]
pub struct Response {
    /// What was asked, for messages.
    pub asked: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header's value; empty where it is missing, joined by commas where it comes several times.
    pub fn header(&self, name: &str) -> String {
        let all: Vec<_> =
            self.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
        all.join(", ")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON: {e}\n{self}"))
    }

    /// The first error's code in the registry's form.
    #[track_caller]
    pub fn error_code(&self) -> String {
        let code = self.json()["errors"][0]["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| panic!("no error in the registry's form\n{self}"))
    }

    /// All that tells two answers apart, without what differs between any two: the date and the request's id.
    pub fn appearance(&self) -> String {
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        headers.sort();
        let body = String::from_utf8_lossy(&self.body).replace(&self.header("x-request-id"), "");
        format!("{} {headers:?} {body}", self.status)
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Fails the test unless status and error code are these.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Response {
        let response = self.expect(status);
        assert_eq!(response.error_code(), code, "{response}");
        response
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "> {}\n< {}", self.asked, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "< {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let shown = self.body.get(..2000).unwrap_or(&self.body);
        write!(f, "{}", String::from_utf8_lossy(shown))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
