//! A registry of our own on loopback, with deletion enabled.

use crate::parts;
use crate::processes::Owned;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Starts it with its storage under the directory, and waits until it takes requests.
pub fn start(directory: &Path, port: u16, patience: Duration) -> Result<Owned> {
    let program = parts::find(parts::REGISTRY).context("a registry was there a moment ago")?;
    std::fs::create_dir_all(directory)?;
    let storage = directory.join("data");
    let text = format!(
        "version: 0.1\n\
         log: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {:?}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        storage.display().to_string()
    );
    let config = directory.join("config.yml");
    std::fs::write(&config, text)?;
    let log = directory.join("log");
    let output = File::create(&log)?;
    let mut command = Command::new(program);
    command.arg("serve").arg(config);
    let mut registry = Owned::start("the registry", &command, output.try_clone()?.into(), output.into())?;
    registry.wait_for_port(port, patience).with_context(|| read_tail(&log))?;
    Ok(registry)
}

fn read_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let skip = text.lines().count().saturating_sub(10);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
