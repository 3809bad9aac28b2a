//! `policy new`: a directory with a policy that works, its settings and its cases. The files are embedded
//! (`policies-wasm/templates/README.md` says which go where).

use super::directory::Language;
use crate::cli::output::{Answer, Failure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Most bytes of a name.
const MAX_NAME_BYTES: usize = 63;

/// Types that the template's source or the SDK's prelude names already.
const TAKEN: &[&str] = &[
    "Box",
    "Bytes",
    "Context",
    "Decision",
    "Descriptor",
    "Deserialize",
    "Err",
    "Fact",
    "Glob",
    "Globs",
    "Hook",
    "ImageConfig",
    "JsonSchema",
    "Manifest",
    "None",
    "Ok",
    "Operation",
    "Option",
    "Outcome",
    "Platform",
    "Policy",
    "Problems",
    "Request",
    "Result",
    "Scope",
    "Self",
    "Settings",
    "Some",
    "String",
    "Subject",
    "SubjectKind",
    "Target",
    "TokenDecision",
    "TokenRequest",
    "Usage",
    "Vec",
];

/// What `new` is told.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Its name: lower-case words with hyphens between them
    name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
    /// Where it is made [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let Arguments { name, lang, directory } = arguments;
    check_name(name, *lang)?;
    let directory = directory.clone().unwrap_or_else(|| PathBuf::from(name));
    make_directory(&directory)?;
    let files = files(name, *lang);
    for (path, text) in &files {
        write(&directory.join(path), text)?;
    }
    let names: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
    let json =
        json!({ "name": name, "lang": lang.name(), "directory": directory.display().to_string(), "files": names });
    Ok(Answer::new(next(name, *lang, &directory), json))
}

fn check_name(name: &str, lang: Language) -> Result<(), Failure> {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if name.len() > MAX_NAME_BYTES || !name.split('-').all(word) {
        return Err(Failure::Usage(format!(
            "a policy's name is lower-case letters and digits with hyphens between them, at most {MAX_NAME_BYTES} bytes, not {name:?}"
        )));
    }
    if lang == Language::Rust && name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Failure::Usage(format!(
            "a policy in Rust is a package of the same name, and a package's name cannot begin with a digit, as {name} does"
        )));
    }
    Ok(())
}

/// Nothing that is there already is written over.
fn make_directory(directory: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Refused(format!("{} cannot be made: {error}", directory.display()));
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Refused(format!(
            "{} is not empty, and nothing is written over: choose another name, or another place with --directory DIR",
            directory.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::create_dir_all(directory).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let made = file.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(file, text))
        .map_err(|error| Failure::Refused(format!("{} cannot be written: {error}", file.display())))
}

/// All files of a new policy, with their texts.
fn files(name: &str, lang: Language) -> Vec<(PathBuf, String)> {
    let root = Path::new("templates").join(lang.name());
    let type_name = type_name(name);
    let templates = TEMPLATES.iter().filter_map(|(path, text)| {
        let path = Path::new(path).strip_prefix(&root).ok()?;
        let path =
            if path.extension().is_some_and(|end| end == "template") { path.with_extension("") } else { path.into() };
        Some((path, text.replace("{{name}}", name).replace("{{Name}}", &type_name)))
    });
    let beside: &[(&str, &[(&str, &str)])] = match lang {
        Language::Rust => &[("vendor", SDK), ("vendor", WIT)],
        Language::Js | Language::Python => &[("", WIT)],
        Language::Rego | Language::Cel => &[],
    };
    let beside = beside.iter().flat_map(|(directory, table)| {
        table.iter().map(|(path, text)| (Path::new(directory).join(path), (*text).to_owned()))
    });
    templates.chain(beside).collect()
}

/// `few-layers` as `FewLayers`.
fn type_name(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    };
    let joined: String = name.split('-').map(word).collect();
    if TAKEN.contains(&joined.as_str()) { joined + "Policy" } else { joined }
}

fn next(name: &str, lang: Language, directory: &Path) -> String {
    let directory = directory.display();
    let (what, build) = match lang {
        Language::Rust => ("the rule is in src/lib.rs", "    portcullis policy build\n"),
        Language::Js => ("the rule is in policy.js", "    portcullis policy build\n"),
        Language::Python => ("the rule is in policy.py", "    portcullis policy build\n"),
        Language::Rego | Language::Cel => ("the rule is in settings.yaml", ""),
    };
    format!(
        "{name} is there: {what}, its cases are in cases/. Next:\n\n    cd {directory}\n{build}    portcullis policy test\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn paths(lang: Language) -> Vec<String> {
        files("few-layers", lang).iter().map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn names_are_words_with_hyphens() {
        for name in ["few-layers", "a", "a1-2"] {
            assert!(check_name(name, Language::Rust).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "Few", "few_layers", "few--layers", "-few", "few-", "../few", "few/layers", "é", long.as_str()]
        {
            assert!(matches!(check_name(name, Language::Js), Err(Failure::Usage(_))), "{name}");
        }
    }

    #[test]
    fn a_package_of_rust_cannot_begin_with_a_digit() {
        assert!(check_name("2-layers", Language::Rust).is_err());
        assert!(check_name("2-layers", Language::Rego).is_ok());
    }

    #[test]
    fn every_language_has_its_files_and_no_name_is_left_open() {
        for lang in Language::value_variants() {
            let files = files("few-layers", *lang);
            for wanted in ["policy.yaml", "settings.yaml", "README.md", "cases/layers.yaml"] {
                assert!(files.iter().any(|(path, _)| path == Path::new(wanted)), "{lang:?} lacks {wanted}");
            }
            for (path, text) in &files {
                assert!(!text.contains("{{name}}") && !text.contains("{{Name}}"), "{}", path.display());
                assert!(path.extension().is_none_or(|end| end != "template"), "{}", path.display());
            }
        }
    }

    #[test]
    fn what_a_language_needs_stands_beside() {
        let rust = paths(Language::Rust);
        for wanted in [
            "Cargo.toml",
            ".gitignore",
            ".cargo/config.toml",
            "src/lib.rs",
            "vendor/sdk/Cargo.toml",
            "vendor/sdk/src/lib.rs",
            "vendor/sdk/src/testing/case.rs",
            "vendor/wit/policy.wit",
        ] {
            assert!(rust.iter().any(|path| path == wanted), "{wanted} is not among {rust:?}");
        }
        assert!(paths(Language::Js).contains(&"wit/policy.wit".to_owned()));
        assert!(paths(Language::Python).contains(&"wit/policy.wit".to_owned()));
        assert!(!paths(Language::Cel).iter().any(|path| path.contains("wit")));
    }

    #[test]
    fn a_type_takes_no_name_that_is_taken() {
        assert_eq!(type_name("few-layers"), "FewLayers");
        assert_eq!(type_name("manifest"), "ManifestPolicy");
        assert_eq!(type_name("self"), "SelfPolicy");
        let (_, sdk) = SDK.iter().find(|(path, _)| *path == "sdk/src/lib.rs").unwrap();
        let prelude = sdk.split_once("pub mod prelude {").unwrap().1.split_once('}').unwrap().0;
        let names = prelude
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
        for name in names {
            assert!(TAKEN.contains(&name), "{name} of the prelude could be a policy's name");
        }
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(make_directory(directory.path()).is_ok());
        fs::write(directory.path().join("mine"), "").unwrap();
        assert!(matches!(make_directory(directory.path()), Err(Failure::Refused(_))));
        assert!(make_directory(&directory.path().join("mine")).is_err());
    }
}
