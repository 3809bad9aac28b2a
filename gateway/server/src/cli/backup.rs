//! `backup` and `restore`: the store's copy. The master key is no part of it, so that a copy alone opens nothing.

use super::output::{Answer, Failure};
use super::session::Session;
use crate::config::Config;
use crate::{audit, node_id};
use portcullis_store::{OpenError, sqlite_file};
use portcullis_tenancy::StoreError;
use portcullis_tenancy::audit::Kind;
use serde_json::json;
use std::fs::{self, File};
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};

/// What PostgreSQL has for it.
const POSTGRES: &str =
    "the store is a PostgreSQL database: back it up with `pg_dump -Fc`, and restore it with `pg_restore --clean`";

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Refused(format!("{}: {error}", path.display()))
}

pub(super) async fn back_up(file: &Path, session: &Session) -> Result<Answer, Failure> {
    if sqlite_file(&session.config.store.url).is_none() {
        return Err(Failure::Refused(POSTGRES.to_owned()));
    }
    if file.exists() {
        return Err(failed(file, &"it is there already; name another file, or move this one away"));
    }
    // Half a copy has another name: a whole one that is on the disk takes the file's.
    let unfinished = with_ending(file, &format!(".{}.unfinished", std::process::id()));
    discard(&unfinished);
    let written = write_copy(&unfinished, file, session).await;
    if written.is_err() {
        discard(&unfinished);
    }
    let bytes = written?;
    let key = session.config.data_dir.join("master.key");
    let text = format!(
        "{} holds the store as of now ({bytes} bytes). Without {} it is of no use: keep a copy of that elsewhere.\n",
        file.display(),
        key.display()
    );
    Ok(Answer::new(text, json!({ "file": file.display().to_string(), "bytes": bytes })))
}

async fn write_copy(unfinished: &Path, file: &Path, session: &Session) -> Result<u64, Failure> {
    if let Err(error) = session.store.copy_to(unfinished).await {
        return Err(failed(file, &format!("the copy could not be written, and nothing is left of it: {error}")));
    }
    let bytes = File::open(unfinished).and_then(|copy| {
        copy.sync_all()?;
        Ok(copy.metadata()?.len())
    });
    let bytes = bytes.map_err(|error| failed(unfinished, &error))?;
    // Unlike a renaming, it fails where another backup has made the file meanwhile.
    fs::hard_link(unfinished, file).map_err(|error| failed(file, &error))?;
    discard(unfinished);
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed(directory, &error))?;
    Ok(bytes)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// Removes what a database left at a path.
fn discard(database: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_ending(database, ending));
    }
}

/// Why it cannot be restored.
fn unfit(file: &Path, error: &StoreError) -> Failure {
    if let StoreError::Failed(why) = error
        && let Some(OpenError::NewerSchema(migration)) = why.downcast_ref()
    {
        let told = format!(
            "it is the copy of a newer version's store: its schema has the migration {migration}, which this version does not know; restore it with the version that wrote it, or a later one"
        );
        return failed(file, &told);
    }
    failed(file, &format!("it is no copy of a store: {error}"))
}

/// The copy is checked before anything is touched, and takes the store's place in one step.
pub(super) async fn restore(file: &Path, yes: bool, config: &Config) -> Result<Answer, Failure> {
    let Some(target) = sqlite_file(&config.store.url) else { return Err(Failure::Refused(POSTGRES.to_owned())) };
    let beside = target.with_extension("restoring");
    discard(&beside);
    let copied = fs::copy(file, &beside).and_then(|_| File::open(&beside)?.sync_all());
    if let Err(error) = copied {
        discard(&beside);
        return Err(failed(file, &format!("it could not be copied to {}: {error}", beside.display())));
    }
    let url = format!("sqlite://{}", beside.display());
    // Opening it brings its schema up to date, too.
    let checked = async {
        let copy = portcullis_store::open(&url, 2).await?;
        copy.check().await?;
        copy.close().await;
        Ok::<_, portcullis_tenancy::StoreError>(())
    };
    if let Err(error) = checked.await {
        discard(&beside);
        return Err(unfit(file, &error));
    }
    // Once more after the question: a gateway may have been started while it stood there.
    for ask in [true, false] {
        if target.exists() && portcullis_store::is_in_use(&target).await {
            discard(&beside);
            return Err(Failure::Refused(format!(
                "{} is in use: stop every gateway and command on it, then run this again",
                target.display()
            )));
        }
        if ask {
            confirm(yes, &target)?;
        }
    }
    for left in ["-wal", "-shm"] {
        for path in [&target, &beside] {
            let _ = fs::remove_file(with_ending(path, left));
        }
    }
    fs::rename(&beside, &target).map_err(|error| failed(&target, &error))?;
    let untold = begin_chain_anew(file, config).await.err();
    let mut text = format!(
        "{} is as it was when {} was written. Next: start the gateway, then `portcullis reconcile` tells what has changed upstream since.\n",
        target.display(),
        file.display()
    );
    if let Some(failure) = untold {
        text.push_str(&format!("The audit trail has no record of this: {failure}.\n"));
    }
    Ok(Answer::new(text, json!({ "restored": target.display().to_string() })))
}

/// Records from after the copy are gone, and this node's chain with them: it goes on under a new name. What it was is kept.
async fn begin_chain_anew(file: &Path, config: &Config) -> Result<(), Failure> {
    let data_dir = &config.data_dir;
    let left = [node_id::path(data_dir), audit::checkpoint_path(data_dir), audit::position_path(data_dir)];
    for path in left.iter().filter(|path| path.exists()) {
        fs::rename(path, with_ending(path, ".before-restore")).map_err(|error| failed(path, &error))?;
    }
    let session = Session::open(config.clone()).await?;
    session.tell(Session::note(Kind::Restore).reference(&file.display().to_string())).await?;
    session.store.close().await;
    Ok(())
}

fn confirm(yes: bool, target: &Path) -> Result<(), Failure> {
    if yes || !target.exists() {
        return Ok(());
    }
    let what = format!("this replaces {}, with all that changed since the copy", target.display());
    if !stdin().is_terminal() {
        return Err(Failure::Usage(format!("{what}, and nobody can be asked; add --yes")));
    }
    let mut answer = String::new();
    let _ = write!(stderr().lock(), "{what}. Type yes to go on: ");
    if stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::Refused("the store is left as it is".to_owned()))
}
