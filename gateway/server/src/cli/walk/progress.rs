//! How far a walk is: a bar on a terminal, now and then a line elsewhere, nothing beside JSON.

use crate::cli::output;
use crate::walk::{Finding, Watch};
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_oci::RepositoryName;
use portcullis_tenancy::Project;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    bar: ProgressBar,
    /// Whether lines are written, and whether they would disturb the bar.
    lines: Lines,
    written: Mutex<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    AboveTheBar,
    Plain,
    None,
}

impl Progress {
    pub(super) fn new(json: bool) -> Self {
        let lines = match (json, stderr().is_terminal()) {
            (true, _) => Lines::None,
            (false, true) => Lines::AboveTheBar,
            (false, false) => Lines::Plain,
        };
        // Where there is no terminal, it draws nothing.
        let bar = ProgressBar::new(0);
        bar.set_style(
            ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} repositories, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, lines, written: Mutex::new(Instant::now()) }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        match self.lines {
            Lines::AboveTheBar => self.bar.println(output::harmless(text)),
            Lines::Plain => output::line(text),
            Lines::None => {}
        }
    }
}

impl Watch for Progress {
    fn begins(&self, project: &Project, repositories: usize, after: Option<&str>) {
        self.bar.reset();
        self.bar.set_length(u64::try_from(repositories).unwrap_or(u64::MAX));
        self.bar.set_message(project.name.to_string());
        match after {
            Some(after) => self.line(&format!(
                "{}: goes on after {after}, where the walk before was cut off; {repositories} repositories are left",
                project.name
            )),
            None if self.lines == Lines::Plain => {
                self.line(&format!("{}: {repositories} repositories", project.name));
            }
            None => {}
        }
    }

    fn finished(&self, repository: &RepositoryName, found: &[Finding]) {
        self.bar.inc(1);
        // At once: who is cut off has seen what was found until then.
        for finding in found {
            self.line(&format!("{repository}: {} is {}", finding.subject, finding.kind.name()));
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lines == Lines::Plain && written.elapsed() >= LINE_EVERY {
            *written = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            self.line(&format!("{done} of {all} repositories, {repository} the last"));
        }
    }
}
