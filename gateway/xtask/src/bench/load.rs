//! The programs that make load, and what they say of it.

use super::content::MANIFEST;
use anyhow::{Context as _, Result, bail};
use std::process::Command;
use std::time::Duration;

/// What is asked for, and how.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Requests one after another on each of so many connections, HTTP/1.1.
    Kept(usize),
    /// The same with a new connection for each request.
    Fresh(usize),
    /// Requests on so many connections with so many streams each, HTTP/2.
    Streams(usize, usize),
    /// One large body.
    Body {
        /// HTTP/2, or else HTTP/1.1.
        http2: bool,
    },
}

/// What a load program counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Requests, or bytes of the one body.
    pub amount: f64,
    /// The same by the second.
    pub rate: f64,
    /// The time in which 99 of 100 requests were answered, in milliseconds.
    pub p99: Option<f64>,
}

impl Load {
    /// The program that makes it. None of the three looks at the server's certificate.
    pub fn command(self, url: &str, authorization: Option<&str>, time: Duration, cores: usize) -> Command {
        let seconds = time.as_secs().to_string();
        let mut command = Command::new(match self {
            Self::Kept(_) | Self::Fresh(_) => "wrk",
            Self::Streams(..) => "h2load",
            Self::Body { .. } => "curl",
        });
        match self {
            Self::Kept(connections) | Self::Fresh(connections) => {
                let threads = cores.min(connections);
                command.args([format!("-t{threads}"), format!("-c{connections}"), format!("-d{seconds}s")]);
                command.arg("--latency");
            }
            Self::Streams(connections, streams) => {
                let threads = cores.min(connections);
                command.args([format!("-t{threads}"), format!("-c{connections}"), format!("-m{streams}")]);
                command.args(["-D", &seconds]);
            }
            Self::Body { http2 } => {
                command.args(["--silent", "--show-error", "--fail", "--output", "/dev/null", "--insecure"]);
                command.arg(if http2 { "--http2" } else { "--http1.1" });
                command.args(["--write-out", "%{http_version} %{size_download} %{time_total}"]);
            }
        }
        if let Self::Fresh(_) = self {
            command.args(["-H", "connection: close"]);
        }
        command.args(["-H", &format!("accept: {MANIFEST}")]);
        if let Some(value) = authorization {
            command.args(["-H", &format!("authorization: {value}")]);
        }
        command.arg(url);
        command
    }

    /// Reads what the program said. An answer other than the one asked for is an error: a fast refusal is no result.
    pub fn read(self, output: &str) -> Result<Counted> {
        let counted = match self {
            Self::Kept(_) | Self::Fresh(_) => read_wrk(output),
            Self::Streams(..) => read_h2load(output),
            Self::Body { http2 } => read_curl(output, http2),
        };
        counted.with_context(|| format!("{self:?}: {output}"))
    }

    /// What is counted by the second, and the factor from what was counted.
    pub const fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Kept(_) | Self::Fresh(_) | Self::Streams(..) => ("requests", 1.0),
            Self::Body { .. } => ("MB", 1e-6),
        }
    }

    /// The unit of processor time for one of them, and the factor from seconds by what was counted.
    pub const fn each(self) -> (&'static str, f64) {
        match self {
            Self::Kept(_) | Self::Fresh(_) | Self::Streams(..) => ("µs each", 1e6),
            Self::Body { .. } => ("ms a GiB", 1e3 * 1024.0 * 1024.0 * 1024.0),
        }
    }
}

fn read_wrk(output: &str) -> Result<Counted> {
    if output.contains("Non-2xx") || output.contains("Socket errors") {
        bail!("not every request was answered well");
    }
    let amount = word_before(output, " requests in ")?;
    let rate = number(word_after(output, "Requests/sec:")?)?;
    Ok(Counted { amount: number(amount)?, rate, p99: Some(milliseconds(word_after(output, " 99%")?)?) })
}

fn read_h2load(output: &str) -> Result<Counted> {
    if word_after(output, "Application protocol:")? != "h2" {
        bail!("it was not HTTP/2");
    }
    let amount = word_before(output, " succeeded,")?;
    if [" failed,", " errored,", " 3xx,", " 4xx,", " 5xx"].iter().any(|bad| word_before(output, bad).ok() != Some("0"))
    {
        bail!("not every request was answered well");
    }
    let rate = number(word_before(output, " req/s")?)?;
    Ok(Counted { amount: number(amount)?, rate, p99: None })
}

fn read_curl(output: &str, http2: bool) -> Result<Counted> {
    let words: Vec<&str> = output.split_whitespace().collect();
    let [version, bytes, seconds] = words[..] else { bail!("curl says nothing that is known") };
    if version != if http2 { "2" } else { "1.1" } {
        bail!("it was HTTP/{version}");
    }
    let amount = number(bytes)?;
    Ok(Counted { amount, rate: amount / number(seconds)?, p99: None })
}

pub(super) fn word_after<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    let found = text.split_once(what).and_then(|(_, rest)| rest.split_whitespace().next());
    found.with_context(|| format!("nothing after `{what}`"))
}

pub(super) fn word_before<'a>(text: &'a str, what: &str) -> Result<&'a str> {
    let found = text.split_once(what).and_then(|(before, _)| before.split_whitespace().next_back());
    found.with_context(|| format!("nothing before `{what}`"))
}

pub(super) fn number(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("`{text}` is no number"))
}

pub(super) fn milliseconds(text: &str) -> Result<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (digits, factor) = found.with_context(|| format!("`{text}` is no time"))?;
    Ok(number(digits)? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_counted_is_read() {
        let output = "Running 3s test @ https://127.0.0.1:1/\n  2 threads and 64 connections\n  Latency Distribution\n     \
                      50%    1.10ms\n     75%    1.40ms\n     90%    1.90ms\n     99%  850.00us\n  171234 requests in \
                      3.10s, 262.15MB read\nRequests/sec:  55237.10\nTransfer/sec:     84.56MB\n";
        let counted = Counted { amount: 171_234.0, rate: 55_237.1, p99: Some(0.85) };
        assert_eq!(Load::Kept(64).read(output).unwrap(), counted);
        assert!(Load::Kept(64).read(&output.replace("Transfer", "  Non-2xx or 3xx responses: 5\nTransfer")).is_err());
    }

    #[test]
    fn what_h2load_counted_is_read() {
        let output = "Application protocol: h2\n\nfinished in 3.00s, 66600.33 req/s, 95.28MB/s\nrequests: 199801 total, \
                      199865 started, 199801 done, 199801 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: \
                      199801 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        let load = Load::Streams(8, 8);
        assert_eq!(load.read(output).unwrap(), Counted { amount: 199_801.0, rate: 66_600.33, p99: None });
        assert!(load.read(&output.replace("199801 2xx, 0 3xx, 0 4xx", "0 2xx, 0 3xx, 199801 4xx")).is_err());
        assert!(load.read(&output.replace("l: h2", "l: http/1.1")).is_err());
    }

    #[test]
    fn what_curl_counted_is_read() {
        let load = Load::Body { http2: true };
        assert_eq!(load.read("2 1000000 0.500").unwrap(), Counted { amount: 1e6, rate: 2e6, p99: None });
        assert!(load.read("1.1 1000000 0.500").is_err());
    }
}
