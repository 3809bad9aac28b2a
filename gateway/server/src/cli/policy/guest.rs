//! Components, loaded here as a gateway loads them, under the default limits. Whatever a component is, this comes to an end.

use super::directory::Place;
use crate::cli::output::Failure;
use portcullis_policy::{
    CallLimits, Engine, Failure as CallFailure, Limits, LoadError, Options, Policy, Program, Reuse,
};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

/// How long a component may take to be compiled and looked at.
const LOADING: Duration = Duration::from_secs(300);
/// How long a call may take beyond its CPU time. A guest waits for nothing: such a time tells of the author's machine, and is
/// no reason to call a policy slow.
const PREEMPTED: Duration = Duration::from_secs(5);
/// For the compiler, which calls itself.
const STACK: usize = 16 << 20;

/// Why a policy cannot be made of a program and settings.
#[derive(Debug)]
pub(super) enum Refused {
    /// The settings' faults, in the guest's own words where it was the guest that found them.
    Settings(Vec<String>),
    /// The guest failed over its settings.
    Failed(CallFailure),
    /// Anything else.
    Load(LoadError),
}

/// Reads a component's bytes. One that is larger than the limit is not read.
pub(super) fn read(component: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::Refused(format!("{} cannot be read: {error}", component.display()));
    let metadata = fs::metadata(component).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Failure::Refused(format!("{} is no file", component.display())));
    }
    let (bytes, limit) = (usize::try_from(metadata.len()).unwrap_or(usize::MAX), Limits::default().component_bytes);
    if bytes > limit {
        return Err(Failure::Refused(format!("{}: {}", component.display(), LoadError::TooLarge { bytes, limit })));
    }
    fs::read(component).map_err(failed)
}

/// Loads a component.
pub(super) fn load(bytes: Vec<u8>) -> Result<Arc<Program>, LoadError> {
    load_with(bytes, false)
}

/// Loads a component whose calls count fuel.
pub(super) fn load_for_fuel(bytes: Vec<u8>) -> Result<Arc<Program>, LoadError> {
    load_with(bytes, true)
}

/// The component of a policy's directory, loaded.
pub(super) fn load_from(place: &Place) -> Result<(Vec<u8>, Arc<Program>), Failure> {
    let component = place.component()?;
    let bytes = read(&component)?;
    let program = load(bytes.clone()).map_err(|error| {
        Failure::Refused(format!("{}: {error}; `portcullis policy check` says more", component.display()))
    })?;
    if let Some(source) = place.younger_source() {
        crate::cli::output::note(&format!(
            "note: {} is younger than {}: `portcullis policy build` makes it anew",
            source.display(),
            component.display()
        ));
    }
    Ok((bytes, program))
}

/// A gateway's default limits, on a machine that may be busy with something else.
fn limits() -> Limits {
    let mut limits = Limits::default();
    let classes = &mut limits.classes;
    for class in [&mut classes.small, &mut classes.javascript, &mut classes.python] {
        class.call.hard_stop = PREEMPTED;
    }
    limits
}

/// Guests' calls have their own limits; the compiler, which has none for its time, is left behind where it does not end.
fn load_with(bytes: Vec<u8>, fuel: bool) -> Result<Arc<Program>, LoadError> {
    let (done, loaded) = channel();
    let work = move || {
        let engine = Engine::new(limits(), Options { fuel, ..Options::default() });
        // Whoever waits may have given up.
        let _ = done.send(engine.and_then(|engine| Program::load(&engine, &bytes)));
    };
    Builder::new()
        .name("load".to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|error| LoadError::Internal(format!("no thread can be started: {error}")))?;
    match loaded.recv_timeout(LOADING) {
        Ok(program) => program.map(Arc::new),
        Err(RecvTimeoutError::Timeout) => {
            Err(LoadError::Compile(format!("it took longer than {} s", LOADING.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => Err(LoadError::Compile("the compiler failed".to_owned())),
    }
}

/// A program with settings. What the guest itself says of them goes before what its schema says, since that is what a native
/// test of it would hear.
pub(super) fn policy(program: &Arc<Program>, settings: Option<&Value>) -> Result<Policy, Refused> {
    policy_with(program, settings, None, None)
}

/// The same with other limits, or with reuse.
pub(super) fn policy_with(
    program: &Arc<Program>,
    settings: Option<&Value>,
    limits: Option<CallLimits>,
    reuse: Option<Reuse>,
) -> Result<Policy, Refused> {
    let settings = text(settings);
    if settings.len() <= program.limits().settings.settings_bytes {
        match program.ask_settings(&settings) {
            Ok(Ok(())) => {}
            Ok(Err(faults)) => return Err(Refused::Settings(faults)),
            Err(failure) => return Err(Refused::Failed(failure)),
        }
    }
    Policy::new(Arc::clone(program), &settings, limits, reuse).map_err(|error| match error {
        LoadError::Settings(faults) => Refused::Settings(faults),
        error => Refused::Load(error),
    })
}

/// Settings as they are given to a guest.
pub(super) fn text(settings: Option<&Value>) -> String {
    settings.map_or_else(|| "{}".to_owned(), Value::to_string)
}

impl From<Refused> for LoadError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Settings(faults) => {
                Self::Settings(faults.iter().map(|fault| portcullis_policy::plain(fault, 256)).collect())
            }
            Refused::Failed(failure) => Self::Settings(vec![format!("the guest failed over them: {failure}")]),
            Refused::Load(error) => error,
        }
    }
}
