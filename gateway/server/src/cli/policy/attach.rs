//! `attach` and `detach`: what is attached is resolved, tried as a gateway would, and kept in the store; every gateway takes
//! it up from there.

use super::artifact::{self, Place};
use super::directory;
use crate::cli::output::{Answer, Failure};
use crate::cli::session::Session;
use crate::policies;
use crate::upstream_admin::UpstreamAdmin;
use clap::{Args, ValueEnum};
use portcullis_oci::manifest;
use portcullis_oci::{Digest, Reference};
use portcullis_policy::Program;
use portcullis_tenancy::audit::Kind;
use portcullis_tenancy::policy::{self, Attachment, Mode, OnError, PolicyName, Reuse};
use portcullis_tenancy::{Project, Store, project};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(in crate::cli) struct Attach {
    /// The project, unless --platform is given; then the policy: a reference into this registry, such as
    /// acme/policies/naming:1, a file, or the name of one that comes with Portcullis, such as rego
    #[arg(num_args = 1..=2, required = true, value_names = ["PROJECT", "REF|FILE"])]
    what: Vec<String>,
    /// Attach it to all projects, before their own
    #[arg(long)]
    platform: bool,
    /// Its name here [default: the one that it gives itself]
    #[arg(long)]
    name: Option<String>,
    /// Its settings, YAML or JSON [default: as before, else none]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Whether it refuses, or only tells what it would refuse [default: as before, else enforce]
    #[arg(long, value_enum)]
    mode: Option<ModeWord>,
    /// What its failures mean [default: as before, else deny]
    #[arg(long, value_enum)]
    on_error: Option<OnErrorWord>,
    /// Its place in the chain; equal ones go by name [default: as before, else 0]
    #[arg(long, allow_negative_numbers = true)]
    order: Option<i32>,
    /// Let one instance serve so many calls in a row, for at most a minute; 1 is a fresh one for each call [default: as before, else 1]
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    reuse: Option<u32>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Detach {
    /// The project, unless --platform is given; then the policy's name
    #[arg(num_args = 1..=2, required = true, value_names = ["PROJECT", "POLICY"])]
    what: Vec<String>,
    /// Take it away from the platform
    #[arg(long)]
    platform: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeWord {
    Enforce,
    Monitor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnErrorWord {
    Deny,
    Allow,
}

/// Longest life of an instance that serves more than one call.
const REUSE_S: u32 = 60;

pub(super) async fn attach(wanted: Attach, session: &Session) -> Result<Answer, Failure> {
    let (owner, what) = owner(&wanted.what, wanted.platform, "REF|FILE", session).await?;
    let (component, source) = component(what, owner.as_ref(), session).await?;
    let digest = Digest::sha256(&component);
    let engine = engine(session).await?;
    let bytes = Arc::clone(&component);
    let program = tokio::task::spawn_blocking(move || Program::load(&engine, &bytes).map(Arc::new));
    let refused = |error: &dyn std::fmt::Display| {
        Failure::Refused(format!("{what} cannot be attached: {error}; `portcullis policy check` says more"))
    };
    let program = program.await.map_err(|error| refused(&error))?.map_err(|error| refused(&error))?;
    let name = PolicyName::parse(wanted.name.as_deref().unwrap_or(&program.info().name))?;
    let id = owner.as_ref().map(|project| &project.id);
    let wanted = policy::Wanted {
        name,
        digest,
        source: source.into(),
        settings: wanted.settings.as_deref().map(settings).transpose()?.map(Into::into),
        mode: wanted.mode.map(Mode::from),
        on_error: wanted.on_error.map(OnError::from),
        order: wanted.order,
        reuse: wanted.reuse.map(|calls| (calls > 1).then_some(Reuse { calls, seconds: REUSE_S })),
    };
    let draft = policy::draft(&session.store, id, wanted, "operator".into(), session.now, &crate::app::random).await?;
    let attachment = &draft.attachment;
    let all = session.store.attachments().await?;
    let others = all.iter().filter(|other| other.project.as_ref() == id && other.name != attachment.name).count();
    let most = session.config.policies.host.chain.attachments;
    if others >= most {
        let why =
            format!("{most} policies are attached there, and policies.attachments allows no more; detach one first");
        return Err(refused(&why));
    }
    let tried = policies::attachment(attachment);
    let class = program.class().name();
    let hooks: Vec<&str> = program.info().hooks.iter().map(|hook| hook.name()).collect();
    let made = tokio::task::spawn_blocking(move || {
        portcullis_policy::Policy::new(program, &tried.settings, tried.limits, tried.reuse).map(drop)
    });
    made.await.map_err(|error| refused(&error))?.map_err(|error| refused(&error))?;
    let told = format!("{} {} from {}", attachment.name, attachment.mode.as_str(), attachment.source);
    let mut note = Session::note(Kind::PolicyAttach).reference(&told).digest(attachment.digest.as_str());
    if let Some(project) = &owner {
        note = note.project(project.name.as_str());
    }
    policy::attach(&*session.audited(note).await?, &draft, &component).await?;
    let to = owner.as_ref().map_or_else(|| "the platform".to_owned(), |project| format!("project {}", project.name));
    let does = match attachment.mode {
        Mode::Enforce => "it refuses",
        Mode::Monitor => "it tells what it would refuse, and refuses nothing",
    };
    let text = format!(
        "Policy {name} is attached to {to}, asked at {hooks}: within 2 s {does}.\n{digest}, from {source}\nNext: portcullis policy status\n",
        name = attachment.name,
        hooks = hooks.join(", "),
        digest = attachment.digest,
        source = attachment.source,
    );
    let mut json = show(attachment, owner.as_ref());
    if let Some(object) = json.as_object_mut() {
        object.insert("hooks".to_owned(), hooks.into());
        object.insert("class".to_owned(), class.into());
    }
    Ok(Answer::new(text, json))
}

pub(super) async fn detach(wanted: Detach, session: &Session) -> Result<Answer, Failure> {
    let (owner, name) = owner(&wanted.what, wanted.platform, "POLICY", session).await?;
    let name = PolicyName::parse(name)?;
    let mut note = Session::note(Kind::PolicyDetach).reference(name.as_str());
    if let Some(project) = &owner {
        note = note.project(project.name.as_str());
    }
    let store = session.audited(note).await?;
    policy::detach(&*store, owner.as_ref().map(|project| &project.id), &name).await?;
    let from = owner.as_ref().map_or_else(|| "the platform".to_owned(), |project| format!("project {}", project.name));
    let text = format!("Policy {name} is detached from {from}; within 2 s nobody asks it any more.\n");
    let json =
        json!({ "name": name.as_str(), "project": owner.map(|project| project.name.to_string()), "detached": true });
    Ok(Answer::new(text, json))
}

/// An attachment's JSON form.
pub(super) fn show(attachment: &Attachment, owner: Option<&Project>) -> Value {
    json!({
        "project": owner.map(|project| project.name.as_str()),
        "name": attachment.name.as_str(),
        "digest": attachment.digest.as_str(),
        "source": attachment.source,
        "settings": serde_json::from_str::<Value>(&attachment.settings).unwrap_or_default(),
        "mode": attachment.mode.as_str(),
        "on_error": attachment.on_error.as_str(),
        "order": attachment.order,
        "reuse": attachment.reuse.map(|reuse| json!({ "calls": reuse.calls, "seconds": reuse.seconds })),
        "attached_at": attachment.attached_at.to_string(),
        "attached_by": attachment.attached_by,
    })
}

/// The project, or the platform, and the word after it.
async fn owner<'a>(
    words: &'a [String],
    platform: bool,
    second: &str,
    session: &Session,
) -> Result<(Option<Project>, &'a str), Failure> {
    match (words, platform) {
        ([what], true) => Ok((None, what)),
        ([name, what], false) => Ok((Some(project::find(&session.store, name).await?), what)),
        (_, true) => Err(Failure::Usage(format!("with --platform there is no project: write --platform {second}"))),
        (_, false) => {
            Err(Failure::Usage(format!("write PROJECT {second}, or --platform {second} for all projects together")))
        }
    }
}

/// A file of settings, as it is kept.
pub(super) fn settings(file: &Path) -> Result<String, Failure> {
    let settings: Value = directory::read_yaml(file)?;
    Ok(directory::as_settings(settings).unwrap_or_else(|| json!({})).to_string())
}

/// The engine of this deployment: what is compiled here is found in the cache by a gateway on this machine.
pub(super) async fn engine(session: &Session) -> Result<portcullis_policy::Engine, Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let keys = session.store.keys().await?;
    let master = crate::master_key::open(&session.config.data_dir, &keys).map_err(|error| failed(error.into()))?;
    policies::engine(&session.config.policies, &session.config.data_dir, &master).map_err(failed)
}

/// A component's bytes, and where they came from.
pub(super) async fn component(
    what: &str,
    owner: Option<&Project>,
    session: &Session,
) -> Result<(Arc<[u8]>, String), Failure> {
    // A word alone is a policy that comes with Portcullis.
    let shipped = if PolicyName::parse(what).is_ok() && !Path::new(what).is_file() {
        Some(directory::find_shipped(what)?)
    } else {
        None
    };
    let file = shipped.as_deref().unwrap_or(Path::new(what));
    if file.is_file() {
        let bytes = std::fs::read(file).map_err(|error| Failure::Refused(format!("{what}: {error}")))?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        return Ok((bytes.into(), name.unwrap_or_default()));
    }
    if what.ends_with(".wasm") {
        return Err(Failure::Refused(format!("{what}: there is no such file; `portcullis policy build` makes one")));
    }
    let place = Place::parse(what)?;
    let registry = session.config.server.public_url.registry();
    if place.host.as_ref().is_some_and(|host| *host != registry) {
        return Err(Failure::Refused(format!(
            "{what} is in another registry; policies come from {registry} alone: push it there with `portcullis policy push`"
        )));
    }
    let source = project::find(&session.store, place.repository.project()).await?;
    if owner.is_some_and(|owner| owner.id != source.id) {
        return Err(Failure::Refused(format!(
            "{what} is project {}'s; a project's policies come from its own repositories, or are attached with --platform",
            source.name
        )));
    }
    let (bytes, digest) = fetch(&source, &place, session).await?;
    Ok((bytes, format!("{registry}/{}@{digest}", place.repository)))
}

/// Fetches an artifact's component from the upstream, and checks every byte on the way.
async fn fetch(project: &Project, place: &Place, session: &Session) -> Result<(Arc<[u8]>, Digest), Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{}: {error:#}", place.repository));
    let upstream = UpstreamAdmin::new(&session.config.upstream).map_err(failed)?;
    let repository = project.upstream_name(&place.repository);
    let found = upstream.manifest(&repository, &place.reference).await.map_err(failed)?;
    let (media_type, bytes) = found.ok_or_else(|| {
        Failure::Refused(format!(
            "{} has no {}; `portcullis policy push` puts one there",
            place.repository, place.reference
        ))
    })?;
    let manifest = manifest::parse(media_type.as_deref(), &bytes)
        .map_err(|error| Failure::Refused(format!("{} is no manifest: {error}", place.reference)))?;
    let digest = match &place.reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(_) => Digest::sha256(&bytes),
    };
    let layer = artifact::layer(&manifest)?;
    let most = session.config.policies.host.component_bytes;
    let component = upstream.blob(&repository, &layer.digest, most).await.map_err(failed)?;
    Ok((component.to_vec().into(), digest))
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Enforce => Self::Enforce,
            ModeWord::Monitor => Self::Monitor,
        }
    }
}

impl From<OnErrorWord> for OnError {
    fn from(word: OnErrorWord) -> Self {
        match word {
            OnErrorWord::Deny => Self::Deny,
            OnErrorWord::Allow => Self::Allow,
        }
    }
}
