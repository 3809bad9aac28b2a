//! `[traces]`: where traces go, and of which requests.

use super::PublicUrl;
use super::hint::shown;
use super::reader::Section;
use super::upstream::certificates;
use http::{HeaderName, HeaderValue};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// Where OTLP's traces are taken, where the endpoint names no path.
const PATH: &str = "/v1/traces";
/// Every request, in parts of a million.
const ALL: u32 = 1_000_000;

/// `[traces]`: OpenTelemetry traces, by OTLP over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Traces {
    /// `endpoint`: the collector; none (default) is off.
    pub endpoint: Option<TraceEndpoint>,
    /// `ca_file`: PEM roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `headers_file`: what the collector wants to be shown with each request.
    pub headers: Vec<(String, Zeroizing<String>)>,
    /// `sample_ratio`, in parts of a million: how many of the requests for which nobody else has decided.
    pub sample_of_million: u32,
    /// `service_name`
    pub service_name: String,
    /// `timeout_s`: for a batch to be taken.
    pub timeout: Duration,
}

/// `traces.endpoint`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEndpoint {
    /// Scheme, host and port.
    pub origin: PublicUrl,
    /// The path, `/v1/traces` where none is written.
    pub path: String,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca_file: None,
            headers: Vec::new(),
            sample_of_million: ALL / 10,
            service_name: "portcullis".to_owned(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Without the headers' values.
impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Traces")
            .field("endpoint", &self.endpoint)
            .field("headers", &names)
            .field("sample_of_million", &self.sample_of_million)
            .finish_non_exhaustive()
    }
}

pub(super) fn read(mut section: Section<'_>) -> Traces {
    let default = Traces::default();
    let endpoint = section.string("endpoint", "http://127.0.0.1:4318", parse_endpoint);
    let ca_file = section.path("ca_file", "collector-ca.pem");
    if let Some(path) = &ca_file {
        certificates(&section, "ca_file", path, "the collector");
        if endpoint.as_ref().is_some_and(|endpoint| !endpoint.origin.https) {
            section.error("ca_file", "contradicts traces.endpoint, which is http: no certificate would be looked at; write an https:// url, or leave ca_file out");
        }
    }
    let headers = section.path("headers_file", "collector-headers").and_then(|path| {
        let text = section.contents("headers_file", &path, "the collector's key")?;
        let headers = std::str::from_utf8(&text).ok().and_then(parse_headers);
        if headers.is_none() {
            let message = format!(
                "{} must hold headers, each in a line of its own as NAME: VALUE, and nothing else; write it anew",
                path.display()
            );
            section.error("headers_file", message);
        }
        headers
    });
    let sample_of_million = section.ratio("sample_ratio", default.sample_of_million);
    let service_name = section.string("service_name", "portcullis", |text| {
        let plain = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(text.to_owned()) } else { Err("must be a word of 1 to 64 plain characters".to_owned()) }
    });
    let timeout = section.seconds("timeout_s", 10, 1..=60, "spans wait in memory for so long");
    section.finish();
    Traces {
        endpoint,
        ca_file,
        headers: headers.unwrap_or_default(),
        sample_of_million,
        service_name: service_name.unwrap_or(default.service_name),
        timeout,
    }
}

/// An origin with a path or without.
fn parse_endpoint(text: &str) -> Result<TraceEndpoint, String> {
    let authority = text.find("://").map_or(0, |scheme| scheme.saturating_add(3));
    let end = text.get(authority..).and_then(|rest| rest.find('/')).map(|slash| slash.saturating_add(authority));
    let (origin, path) = end.map_or((text, ""), |end| text.split_at_checked(end).unwrap_or((text, "")));
    let origin = PublicUrl::parse(origin)?;
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte));
    if !is_plain {
        return Err(format!("\"{}\" is no plain path; write it without a query", shown(path)));
    }
    let path = if path.is_empty() || path == "/" { PATH } else { path };
    Ok(TraceEndpoint { origin, path: path.to_owned() })
}

fn parse_headers(text: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        let (name, value) = (HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value.trim());
        HeaderValue::from_str(value).ok().filter(|value| !value.is_empty())?;
        Some((name.as_str().to_owned(), Zeroizing::new(value.to_owned())))
    });
    let headers: Vec<_> = headers.collect::<Option<_>>()?;
    (!headers.is_empty()).then_some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_path_or_gets_the_usual_one() {
        for (text, origin, path) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318", PATH),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318", PATH),
            ("https://collector.example.com/otlp/v1/traces", "https://collector.example.com", "/otlp/v1/traces"),
            ("http://[::1]:4318/x", "http://[::1]:4318", "/x"),
        ] {
            let endpoint = parse_endpoint(text).unwrap();
            assert_eq!((endpoint.origin.to_string().as_str(), endpoint.path.as_str()), (origin, path));
        }
        for text in ["collector:4318", "http://", "http://me:secret@host/", "http://host/a?b", "http://host/a b", "/x"]
        {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_stand_one_in_a_line_and_are_not_shown() {
        let headers = parse_headers("x-key: abc def\n\nAuthorization: Bearer q:r\n").unwrap();
        let shown: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(shown, [("x-key", "abc def"), ("authorization", "Bearer q:r")]);
        for text in ["", "\n", "x-key", "x key: a", "x-key:", "x-key: a\u{7f}"] {
            assert!(parse_headers(text).is_none(), "{text}");
        }
        let traces = Traces { headers, ..Traces::default() };
        assert!(!format!("{traces:?}").contains("abc"), "{traces:?}");
    }
}
