//! Pushes by curl: a blob streamed in one chunk of unknown length, and a manifest.

use super::content::{Content, MANIFEST, REPOSITORY, manifest_path};
use super::gate::{Subjects, Watched, watch};
use super::stage::{Gateway, Server};
use super::usage::{most_resident, resident};
use crate::processes::ask;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A large push.
pub struct Pushed {
    /// How many bytes.
    pub bytes: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// What it did to the machine.
    pub watched: Watched,
    /// By how much the gateway's memory grew at its highest, in bytes.
    pub growth: u64,
}

/// Someone who pushes through a gateway.
pub struct Pusher<'a> {
    gateway: &'a Gateway,
    registry: &'a Server,
    authorization: String,
}

impl<'a> Pusher<'a> {
    /// Pushes as the gateway's robot.
    pub fn new(gateway: &'a Gateway, registry: &'a Server) -> Result<Self> {
        Ok(Self { gateway, registry, authorization: format!("authorization: {}", gateway.bearer()?) })
    }

    /// A blob: POST, PATCH with a body that does not say how long it is, PUT.
    pub fn blob(&self, blob: &Content) -> Result<Pushed> {
        let id = self.gateway.server.id();
        let before = resident(id)?;
        let mut open = self.curl(&format!("/v2/{REPOSITORY}/blobs/uploads/"));
        open.args(["--request", "POST", "--dump-header", "-"]);
        let location = location(&ask(&mut open)?)?;

        let mut send = self.curl(&location);
        send.args(["--request", "PATCH", "--upload-file", "-", "--dump-header", "-"]);
        send.args(["-H", "content-type: application/octet-stream", "--write-out", "time %{time_total}"]);
        send.stdin(File::open(&blob.file)?);
        let deadline = Duration::from_secs(180);
        let watched = watch(&mut send, Subjects { proxy: id, upstream: self.registry.id(), store: None, deadline })?;
        let seconds = watched.output.rsplit_once("time ").and_then(|(_, time)| time.trim().parse().ok());
        let seconds = seconds.with_context(|| watched.output.clone())?;
        let location = self::location(&watched.output)?;

        let separator = if location.contains('?') { '&' } else { '?' };
        let mut close = self.curl(&format!("{location}{separator}digest={}", blob.digest));
        close.args(["--request", "PUT", "--write-out", "%{http_code}"]);
        let status = ask(&mut close)?;
        if status != "201" {
            bail!("the end of a push was answered {status}");
        }
        let growth = most_resident(id)?.saturating_sub(before);
        Ok(Pushed { bytes: std::fs::metadata(&blob.file)?.len(), seconds, watched, growth })
    }

    /// A manifest, under its digest.
    pub fn manifest(&self, manifest: &Content) -> Result<()> {
        let mut put = self.curl(&manifest_path(manifest));
        put.args(["--request", "PUT", "--write-out", "%{http_code}", "--data-binary"]);
        put.arg(format!("@{}", manifest.file.display())).args(["-H", &format!("content-type: {MANIFEST}")]);
        let status = ask(&mut put)?;
        if status != "201" {
            bail!("a manifest's push was answered {status}");
        }
        Ok(())
    }

    fn curl(&self, target: &str) -> Command {
        let origin = &self.gateway.server.origin;
        let url = if target.starts_with('/') { format!("{origin}{target}") } else { target.to_owned() };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--http1.1", "--max-time", "180", "--cacert"]);
        curl.arg::<&Path>(&self.gateway.authority()).args(["-H", &self.authorization, &url]);
        curl
    }
}

/// Where an answer leads.
pub(super) fn location(heads: &str) -> Result<String> {
    let mut lines = heads.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    found.map(|(_, value)| value.trim().to_owned()).with_context(|| format!("no location in {heads}"))
}
