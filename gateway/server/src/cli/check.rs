//! `check-config`: by the time it runs, the configuration is right.

use super::output::Answer;
use crate::config::Config;
use serde_json::json;
use std::path::Path;

pub(super) fn answer(file: &Path, config: &Config) -> Answer {
    let public_url = config.server.public_url.to_string();
    let upstream = config.upstream.url.to_string();
    Answer::new(
        format!("{} is right: {public_url} in front of {upstream}\n", file.display()),
        json!({ "ok": true, "file": file.display().to_string(), "public_url": public_url, "upstream": upstream }),
    )
}
