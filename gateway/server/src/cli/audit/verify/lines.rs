//! Files of lines: exports, and checkpoints.

use crate::cli::output::Failure;
use portcullis_tenancy::audit::{Checkpoint, Line};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line of an export: a record with texts as long as the store reads them, each letter escaped.
pub(super) const MAX_LINE: u64 = 512 * 1024;

pub(super) fn read_checkpoints(files: &[PathBuf]) -> Result<Vec<Checkpoint>, Failure> {
    let mut all = Vec::new();
    for file in files {
        let before = all.len();
        let too_long = each_line(file, |line| {
            if let Line::Checkpoint(checkpoint) = line {
                all.push(checkpoint);
            }
        })?;
        if let Some(line) = too_long.first() {
            return Err(Failure::Refused(is_too_long(file, *line)));
        }
        if all.len() == before {
            return Err(Failure::Refused(format!(
                "{}: there is no checkpoint in it; `portcullis audit checkpoint` prints one for each node",
                file.display()
            )));
        }
    }
    Ok(all)
}

/// Returns the numbers of the lines that are too long to be read.
pub(super) fn each_line(file: &Path, mut each: impl FnMut(Line)) -> Result<Vec<u64>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Refused(format!("{}: {error}", file.display()));
    let mut reader = BufReader::new(File::open(file).map_err(|error| failed(&error))?);
    let (mut bytes, mut too_long) = (Vec::new(), Vec::new());
    for number in 1_u64.. {
        bytes.clear();
        let read = Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut bytes).map_err(|error| failed(&error))?;
        if read == 0 {
            break;
        }
        if bytes.last() != Some(&b'\n') && u64::try_from(read).is_ok_and(|read| read >= MAX_LINE) {
            reader.skip_until(b'\n').map_err(|error| failed(&error))?;
            too_long.push(number);
            continue;
        }
        let in_line = |error: &dyn std::fmt::Display| failed(&format!("line {number}: {error}"));
        let text = std::str::from_utf8(&bytes).map_err(|error| in_line(&error))?.trim();
        if !text.is_empty() {
            each(Line::parse(text).map_err(|error| in_line(&error))?);
        }
    }
    Ok(too_long)
}

/// What is said of such a line.
pub(super) fn is_too_long(file: &Path, line: u64) -> String {
    format!("{}: line {line} is longer than {MAX_LINE} bytes, as none that is exported is", file.display())
}
