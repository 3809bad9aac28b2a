//! Every target over its corpus, and over some mutations of it that are the same each time. What `make fuzz` found and was
//! mended stays in the corpus, so that it is tried here.

#[path = "corpus/mutations.rs"]
mod mutations;

use mutations::Dice;
use portcullis_fuzz::{Outcome, TARGETS, Target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How many mutations of a corpus are tried.
const MUTATIONS: usize = 10_000;
/// The least that a corpus has.
const SEEDS: usize = 20;

macro_rules! targets {
    ($($name:ident)*) => {
        /// The targets that have tests below.
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        $(mod $name {
            #[test]
            fn its_corpus_holds() {
                super::try_corpus(stringify!($name));
            }

            #[test]
            fn mutations_of_its_corpus_hold() {
                super::try_mutations(stringify!($name));
            }
        })*
    };
}
targets! { route scope challenge digest manifest image_config authorization token claims forwarded proxy_protocol configuration }

/// What is being tried; shown where the test fails.
struct Case<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was tried ({}): \"{}\"", self.name, self.bytes.escape_ascii());
        }
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A target with its corpus, the files in the order of their names.
fn target(name: &str) -> (Target, Vec<(String, Vec<u8>)>) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no target {name}"));
    let mut files: Vec<PathBuf> = listed(&here().join("corpus").join(name));
    files.sort();
    let read = |file: &PathBuf| (file_name(file), std::fs::read(file).expect("our own file"));
    (*target, files.iter().map(read).collect())
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.expect("our own directory").path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a file has a name").to_string_lossy().into_owned()
}

/// A corpus has enough of both kinds, or its target says nothing.
fn try_corpus(name: &str) {
    let ((_, run), corpus) = target(name);
    assert!(corpus.len() >= SEEDS, "{name} has {} seeds", corpus.len());
    let outcomes: Vec<Outcome> = corpus
        .iter()
        .map(|(name, bytes)| {
            let _case = Case { name, bytes };
            run(bytes)
        })
        .collect();
    for kind in [Outcome::Taken, Outcome::Refused] {
        let count = outcomes.iter().filter(|outcome| **outcome == kind).count();
        assert!(count >= 2, "{name}: {count} of {} are {kind:?}", outcomes.len());
    }
}

fn try_mutations(name: &str) {
    let ((_, run), corpus) = target(name);
    let seeds: Vec<&[u8]> = corpus.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let mut dice = Dice::new(1);
    for number in 0..MUTATIONS {
        let bytes = mutations::of(&seeds, &mut dice);
        let _case = Case { name: &format!("mutation {number} of {name}"), bytes: &bytes };
        run(&bytes);
    }
}

#[test]
fn every_target_has_its_tests_its_program_and_its_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let named = |files: Vec<PathBuf>| files.iter().map(|file| file_name(file)).collect::<BTreeSet<_>>();
    assert_eq!(targets, TESTED.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(targets, named(listed(&here().join("corpus"))));
    let programs = listed(&here().join("targets")).iter().map(|file| file.with_extension("")).collect();
    assert_eq!(targets, named(programs));
    let manifest = std::fs::read_to_string(here().join("Cargo.toml")).expect("our own file");
    for name in &targets {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is no program");
        let program = std::fs::read_to_string(here().join(format!("targets/{name}.rs"))).expect("our own file");
        assert!(program.contains(&format!("portcullis_fuzz::{name}(bytes)")), "{name} tries another target");
    }
}

#[test]
fn mutations_are_the_same_each_time_and_differ_from_their_seeds() {
    let seeds: [&[u8]; 2] = [b"GET /v2/acme/app/manifests/1.0", b"PUT /v2/acme/app/blobs/uploads/x"];
    let row = |seed| {
        let mut dice = Dice::new(seed);
        (0..200).map(|_| mutations::of(&seeds, &mut dice)).collect::<Vec<_>>()
    };
    assert_eq!(row(1), row(1));
    assert_ne!(row(1), row(2));
    let distinct: BTreeSet<_> = row(1).into_iter().filter(|bytes| !seeds.contains(&bytes.as_slice())).collect();
    assert!(distinct.len() > 150, "{}", distinct.len());
}
