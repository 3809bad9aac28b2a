//! The configuration's text.

use crate::server::config::{Config, ConfigError, parse, take_over};
use crate::{Outcome, text};
use std::io;
use std::path::Path;

/// What stands in every file that a configuration names, but for certificates.
const SECRET: &str = "a-secret-of-the-fuzzers";

/// A configuration. All that is wrong in it is told, each with a line of it, and nothing of it steers a terminal; what is right
/// is read twice alike, and taking it over changes nothing; and secrets are in no text of either.
pub fn configuration(bytes: &[u8]) -> Outcome {
    let Some(text) = text(bytes) else { return Outcome::Refused };
    let config = match read(text) {
        Ok(config) => config,
        Err(errors) => {
            check_errors(text, &errors);
            return Outcome::Refused;
        }
    };
    assert!(!format!("{config:?}").contains(SECRET), "a secret is shown");
    assert!(config.data_dir.is_absolute() && !config.server.listen.is_empty(), "{config:?}");
    assert_eq!(read(text).as_ref(), Ok(&config));
    let (taken, kept) = take_over(&config, config.clone());
    assert!(taken == config && kept.is_empty(), "{kept:?} is another than itself");
    Outcome::Taken
}

fn read(text: &str) -> Result<Config, Vec<ConfigError>> {
    let read = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("missing") => Err(io::Error::from(io::ErrorKind::NotFound)),
        _ => Ok(format!("{SECRET}\n").into_bytes()),
    };
    parse(text, Path::new("portcullis.toml"), Path::new("/etc/portcullis"), &read)
}

fn check_errors(text: &str, errors: &[ConfigError]) {
    assert!(!errors.is_empty(), "it is refused without a reason");
    assert!(errors.is_sorted_by_key(|error| error.line), "{errors:#?}");
    let lines = text.matches('\n').count() + 1;
    for error in errors {
        assert!((1..=lines).contains(&error.line), "{error}");
        assert!(!error.message.is_empty() && !error.message.contains(SECRET), "{error}");
        let shown = error.to_string();
        assert!(!shown.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{shown:?}");
    }
}
