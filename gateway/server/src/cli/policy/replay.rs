//! `replay`: recorded questions asked again, of a new version or with other settings.

use super::directory::Place;
use super::test;
use crate::cli::output::{Answer, Failure};
use std::path::{Path, PathBuf};

/// Where `record` writes where nothing else is said.
pub(super) const USUAL: &str = "cases/recorded.yaml";

/// What `replay` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// What was recorded [default: cases/recorded.yaml]
    recorded: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let usual = arguments.place.directory.join(USUAL);
    let recorded = if arguments.recorded.is_empty() { vec![usual] } else { arguments.recorded.clone() };
    if let Some(missing) = recorded.iter().find(|place| !Path::exists(place)) {
        return Err(Failure::Refused(format!(
            "{} is not there; `portcullis policy record PROJECT POLICY` writes it from real questions",
            missing.display()
        )));
    }
    test::run(&test::Arguments { place: arguments.place.clone(), cases: recorded })
}
