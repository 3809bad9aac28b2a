//! An export, line by line: it may be longer than memory. It is read twice, for a checkpoint stands behind what it is about.

use super::lines::{each_line, is_too_long};
use super::{Findings, missed};
use crate::cli::output::Failure;
use portcullis_tenancy::audit::{Checkpoint, Entry, Fault, Line, Verified, Verifier, Witness, Wrong};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One node's part of an export, before its records are looked at.
#[derive(Default)]
struct Part {
    /// The place of its first record; none has the place zero.
    first: Option<u64>,
    checkpoints: Vec<Checkpoint>,
}

/// One node's records under verification.
struct Chain<'w> {
    verifier: Verifier<'w>,
    /// The next of them, up to the first checkpoint, that nothing says of what they were: all must be there, in order.
    next: u64,
    unseen: u64,
    fault: Option<Fault>,
}

/// Verifies an export of these nodes; of all that it or a checkpoint names where none is given.
pub(super) fn verify(
    files: &[PathBuf],
    nodes: &[Box<str>],
    given: &[Checkpoint],
    witness: &Witness,
) -> Result<Findings, Failure> {
    let is_wanted = |node: &str| nodes.is_empty() || nodes.iter().any(|wanted| **wanted == *node);
    let given: Vec<Checkpoint> = given.iter().filter(|one| is_wanted(&one.node)).cloned().collect();
    let mut findings = Findings::default();
    let mut parts = survey(files, &mut findings.unreadable)?;
    parts.retain(|node, _| is_wanted(node));
    for node in nodes.iter().filter(|node| !parts.contains_key(*node) && !given.iter().any(|one| one.node == **node)) {
        findings.faults.push(Fault { node: node.clone(), sequence: 1, record: None, wrong: Wrong::Gone });
    }
    miss(&parts, &given, witness, &mut findings);
    let mut chains = BTreeMap::new();
    for (node, mut part) in parts {
        part.checkpoints.extend(given.iter().filter(|one| one.node == node).cloned());
        match part.begin(&node, witness, &mut findings.unverified) {
            Ok(Some(chain)) => {
                chains.insert(node, chain);
            }
            Ok(None) => {}
            Err(fault) => findings.faults.push(fault),
        }
    }
    for file in files {
        each_line(file, |line| {
            if let Line::Entry(entry) = line
                && let Some(chain) = chains.get_mut(&entry.record.node)
            {
                chain.take(&entry);
            }
        })?;
    }
    for (node, chain) in chains {
        match chain.end(node) {
            Ok(verified) => findings.verified.push(verified),
            Err(fault) => findings.faults.push(fault),
        }
    }
    Ok(findings)
}

/// What is in it.
fn survey(files: &[PathBuf], unreadable: &mut Vec<String>) -> Result<BTreeMap<Box<str>, Part>, Failure> {
    let mut parts: BTreeMap<Box<str>, Part> = BTreeMap::new();
    for file in files {
        if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
            let why = "it is no file that can be read twice; write the export to one first";
            return Err(Failure::Refused(format!("{}: {why}", file.display())));
        }
        let too_long = each_line(file, |line| match line {
            Line::Entry(entry) => {
                let place = entry.sequence.unwrap_or_default();
                parts.entry(entry.record.node).or_default().first.get_or_insert(place);
            }
            Line::Checkpoint(checkpoint) => {
                parts.entry(checkpoint.node.clone()).or_default().checkpoints.push(checkpoint);
            }
        })?;
        unreadable.extend(too_long.into_iter().map(|line| is_too_long(file, line)));
    }
    Ok(parts)
}

/// Checkpoints of nodes of which there is no record.
fn miss(parts: &BTreeMap<Box<str>, Part>, given: &[Checkpoint], witness: &Witness, findings: &mut Findings) {
    for checkpoint in given.iter().filter(|one| one.count > 0) {
        let part = parts.get(&checkpoint.node);
        if part.is_some_and(|part| part.first.is_some()) {
            continue;
        }
        // The end of a part in which nothing happened is its checkpoint alone.
        let is_behind = |one: &Checkpoint| one.count >= checkpoint.count && witness.has_checkpoint(one);
        if witness.has_checkpoint(checkpoint) && part.is_some_and(|part| part.checkpoints.iter().any(is_behind)) {
            findings.notes.push(format!("node {}: there is a checkpoint of it, and no record", checkpoint.node));
            continue;
        }
        findings.faults.push(missed(checkpoint, witness));
        findings.notes.push(format!(
            "node {}: there is a checkpoint of it, and nothing else; if the export is of other nodes alone, name them with --node",
            checkpoint.node
        ));
    }
}

impl Part {
    /// Begins at its first record, or behind the first checkpoint where it begins within the chain.
    fn begin<'w>(
        &self,
        node: &str,
        witness: &'w Witness,
        unverified: &mut Vec<String>,
    ) -> Result<Option<Chain<'w>>, Fault> {
        const NEXT: &str = "give the part before it with --file, or a checkpoint from before it with --checkpoint; --node leaves other nodes out";
        let Some(first) = self.first else { return Ok(None) };
        let before = first.saturating_sub(1);
        let begin = self.checkpoints.iter().filter(|one| one.count >= before && witness.has_checkpoint(one));
        let verifier = match begin.min_by_key(|one| one.count) {
            _ if before == 0 => Verifier::new(witness, node, None, &self.checkpoints)?,
            Some(begin) => Verifier::behind(witness, begin, &self.checkpoints)?,
            None => {
                unverified.push(format!(
                    "node {node}: it begins at record {first}, and no checkpoint says what came before: {NEXT}"
                ));
                return Ok(None);
            }
        };
        let unseen = verifier.count();
        if unseen > before {
            unverified.push(format!(
                "node {node}: records {first} to {unseen} come before the first checkpoint, and nothing says what came before them: {NEXT}"
            ));
        }
        // A first record without a place is out of place, and none of those that nothing is said of.
        Ok(Some(Chain { verifier, next: first.max(1), unseen, fault: None }))
    }
}

impl Chain<'_> {
    fn take(&mut self, entry: &Entry) {
        if self.fault.is_some() {
            return;
        }
        if self.next > self.unseen {
            self.fault = self.verifier.take(entry).err();
            return;
        }
        let place = entry.sequence.unwrap_or_default();
        let fault = |sequence, record, wrong| Some(Fault { node: entry.record.node.clone(), sequence, record, wrong });
        match place.cmp(&self.next) {
            Ordering::Equal => self.next = self.next.saturating_add(1),
            Ordering::Less => self.fault = fault(place, Some(Box::new(entry.record.clone())), Wrong::OutOfPlace),
            Ordering::Greater => self.fault = fault(self.next, None, Wrong::Gone),
        }
    }

    fn end(self, node: Box<str>) -> Result<Verified, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.next <= self.unseen {
            return Err(Fault { node, sequence: self.next, record: None, wrong: Wrong::Cut { of: self.unseen } });
        }
        self.verifier.end(None)
    }
}
