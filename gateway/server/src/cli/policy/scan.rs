//! `scan`: what policies would say of everything that a project has stored, had it come today.

use super::attach;
use crate::app::{App, MAX_WRITES, Worker, random};
use crate::cli::output::{Answer, Failure};
use crate::cli::session::Session;
use crate::cli::table::{self, Column};
use crate::pipeline::respond::Refusal;
use crate::pipeline::screen::{Found, Lookup};
use crate::policies;
use crate::upstream_admin::UpstreamAdmin;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use portcullis_oci::{Digest, Reference, RepositoryName, Tag};
use portcullis_policy::question::{Ask, Context, Hook, Question, Subject, SubjectKind, Target};
use portcullis_policy::verdict::Reply;
use portcullis_policy::{Attachment, Catalog, Generation, Mode, OnError, Program};
use portcullis_store::CachedStore;
use portcullis_tenancy::{Project, Store, Timestamp, project, random_id};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The project
    project: String,
    /// A policy that is not attached yet: a reference or a file [default: all that are attached]
    #[arg(value_name = "REF|FILE")]
    policy: Option<String>,
    /// Its settings, YAML or JSON
    #[arg(long, value_name = "FILE", requires = "policy")]
    settings: Option<PathBuf>,
}

/// Manifests that are looked at at once.
const AT_ONCE: usize = 8;

const COLUMNS: [Column; 5] = [
    Column::Whole("REPOSITORY"),
    Column::Whole("TAG OR DIGEST"),
    Column::Whole("POLICY"),
    Column::Whole("AT"),
    Column::Wraps("WOULD BE REFUSED"),
];

/// A manifest, by the tags that it stands under.
struct Stored {
    repository: RepositoryName,
    digest: Digest,
    tags: Vec<Tag>,
}

/// A refusal, or a failure, of something that is stored.
struct Finding {
    repository: RepositoryName,
    what: String,
    /// Who was asked, and where; nobody where it is no manifest that could be shown to a policy.
    asked: Option<(String, Hook)>,
    message: String,
    failed: bool,
}

pub(super) async fn run(wanted: &Arguments, session: &Session) -> Result<Answer, Failure> {
    let project = project::find(&session.store, &wanted.project).await?;
    let worker = worker(session).await?;
    let generation = match &wanted.policy {
        Some(policy) => single(wanted, policy, &project, session).await?,
        None => worker.app.policies.current(),
    };
    let hooks: Vec<Hook> =
        [Hook::ManifestPush, Hook::Pull].into_iter().filter(|hook| generation.asks(&project.id.0, *hook)).collect();
    if hooks.is_empty() {
        return Err(Failure::Refused(format!(
            "no policy of {} is asked about manifests; name one to try: portcullis policy scan {0} REF|FILE",
            project.name
        )));
    }
    let stored = everything(&project, &worker, session).await?;
    let bar = ProgressBar::new(u64::try_from(stored.len()).unwrap_or(u64::MAX));
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} manifests, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let judge = Judge { worker: &worker, project: &project, generation: &generation, hooks: &hooks, now: session.now };
    let mut findings = Vec::new();
    let mut judged = stream::iter(&stored).map(|one| judge.judge(one)).buffered(AT_ONCE);
    while let Some(found) = judged.next().await {
        findings.extend(found?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(answer(&project, &stored, &findings, session))
}

/// A worker of our own, that serves nobody.
async fn worker(session: &Session) -> Result<Worker, Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let config = session.config.clone();
    let store = portcullis_store::open(&config.store.url, config.store.max_connections).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let master = crate::master_key::open(&config.data_dir, &store.keys().await?).map_err(|e| failed(e.into()))?;
    let issuer = store.deployment(&random_id(&random)).await?;
    let store = CachedStore::new(store, Handle::current(), config.store.stale_max);
    store.refresh().await?;
    let app = App::new(config, store, master, issuer).await.map_err(failed)?;
    let writes = usize::try_from(MAX_WRITES).unwrap_or(usize::MAX);
    let clock = app.telemetry.clock();
    Ok(Worker { app, pool: Arc::default(), clock, writes: Arc::new(Semaphore::new(writes)) })
}

/// One policy, as if it were the only one attached.
async fn single(
    wanted: &Arguments,
    what: &str,
    project: &Project,
    session: &Session,
) -> Result<Arc<Generation>, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(format!("{what}: {error}"));
    let (component, _) = attach::component(what, Some(project), session).await?;
    let engine = attach::engine(session).await?;
    let settings = wanted.settings.as_deref().map(attach::settings).transpose()?.unwrap_or_else(|| "{}".to_owned());
    let owner = policies::owner(Some(&project.id));
    let loading = tokio::task::spawn_blocking(move || {
        let attachment = Attachment {
            name: Program::load(&engine, &component)?.info().name.clone(),
            order: 0,
            digest: Digest::sha256(&component),
            settings,
            mode: Mode::Monitor,
            on_error: OnError::Deny,
            reuse: None,
            limits: None,
        };
        let catalog = Catalog::new(engine);
        let problems = catalog.replace(&owner, vec![attachment], &|_| Ok(Arc::clone(&component)));
        Ok((catalog.current(), problems))
    });
    let loaded: Result<_, portcullis_policy::LoadError> = loading.await.map_err(|error| refused(&error))?;
    let (generation, problems) = loaded.map_err(|error| refused(&error))?;
    match problems.first() {
        Some(problem) => Err(refused(&problem.error)),
        None => Ok(generation),
    }
}

/// All that is on record, and what the upstream has under the project's prefix besides.
async fn everything(project: &Project, worker: &Worker, session: &Session) -> Result<Vec<Stored>, Failure> {
    let failed = |error: anyhow::Error| Failure::Refused(format!("{error:#}"));
    let upstream = UpstreamAdmin::new(&session.config.upstream).map_err(failed)?;
    let mut repositories = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = session.store.repositories(&project.id, after.as_deref(), 1000).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.as_str().to_owned());
        repositories.extend(page);
    }
    for name in upstream.repositories(&project.upstream_prefix).await.map_err(failed)? {
        repositories.extend(project.public_name(&name));
    }
    let mut stored = Vec::new();
    for repository in repositories {
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for (digest, _) in session.store.manifests(&project.id, &repository).await? {
            tags.entry(digest).or_default();
        }
        let recorded: BTreeMap<Tag, Digest> = session.store.tags(&project.id, &repository).await?.into_iter().collect();
        let lookup = Lookup::new(worker, project, Some(&repository));
        for tag in upstream.tags(&project.upstream_name(&repository)).await.map_err(failed)? {
            let digest = match recorded.get(&tag) {
                Some(digest) => Some(digest.clone()),
                None => lookup.pulled(&Reference::Tag(tag.clone())).await.map_err(told)?.map(|seen| seen.digest),
            };
            if let Some(digest) = digest {
                tags.entry(digest).or_default().push(tag);
            }
        }
        stored.extend(tags.into_iter().map(|(digest, tags)| Stored { repository: repository.clone(), digest, tags }));
    }
    Ok(stored)
}

/// Whoever judges what is stored.
struct Judge<'a> {
    worker: &'a Worker,
    project: &'a Project,
    generation: &'a Arc<Generation>,
    hooks: &'a [Hook],
    now: Timestamp,
}

impl Judge<'_> {
    async fn judge(&self, stored: &Stored) -> Result<Vec<Finding>, Failure> {
        let lookup = Lookup::new(self.worker, self.project, Some(&stored.repository));
        let reference = Reference::Digest(stored.digest.clone());
        let Some(seen) = lookup.pulled(&reference).await.map_err(told)? else { return Ok(Vec::new()) };
        let (repository, what) = (stored.repository.clone(), stored.what());
        let Some(manifest) = &seen.manifest else {
            let message = "it cannot be read, so that no policy can judge it; push the image again".to_owned();
            return Ok(vec![Finding { repository, what, asked: None, message, failed: true }]);
        };
        let mut findings = Vec::new();
        for hook in self.hooks {
            let wants = self.generation.wants(&self.project.id.0, *hook);
            let mut found = Found::default();
            let manifest = lookup.record(manifest, wants, &mut found).await;
            let target = Target {
                repository: stored.repository.to_string(),
                tags: stored.tags.iter().map(Tag::to_string).collect(),
                digest: Some(stored.digest.to_string()),
            };
            let ask = match hook {
                Hook::ManifestPush => Ask::ManifestPush { target, manifest },
                _ => Ask::Pull { target, manifest: Some(manifest) },
            };
            lookup.facts(&ask, wants, &mut found).await;
            // What cannot be read is a finding; what cannot be had is none.
            if let Some(refusal) = found.refusal.filter(|refusal| !matches!(refusal, Refusal::Protocol(_))) {
                return Err(told(refusal));
            }
            let facts = Arc::new(found.facts);
            let question = Question { context: self.context(), ask, facts, raw_manifest: seen.text() };
            let answer = self.generation.ask(&self.project.id.0, &question, Instant::now());
            for heard in answer.heard {
                let (message, failed) = match heard.said {
                    Ok(Reply::Deny(denial)) => (denial.message, false),
                    Err(failure) => (failure.to_string(), true),
                    Ok(_) => continue,
                };
                let (repository, what, asked) = (repository.clone(), what.clone(), Some((heard.policy, *hook)));
                findings.push(Finding { repository, what, asked, message, failed });
            }
        }
        Ok(findings)
    }

    /// Nobody in particular asks.
    fn context(&self) -> Context {
        Context {
            request_id: "scan".to_owned(),
            project: self.project.name.to_string(),
            now_ms: u64::try_from(self.now.as_millisecond()).unwrap_or_default(),
            client_ip: "127.0.0.1".to_owned(),
            user_agent: "portcullis-scan".to_owned(),
            subject: Subject {
                kind: SubjectKind::User,
                id: "operator".to_owned(),
                project: None,
                issuer: None,
                claims_json: "{}".to_owned(),
            },
        }
    }
}

impl Stored {
    fn what(&self) -> String {
        match self.tags.as_slice() {
            [] => self.digest.as_str().chars().take(19).collect(),
            tags => tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Why something could not be looked up, for the operator.
fn told(refusal: Refusal) -> Failure {
    Failure::Refused(match refusal {
        Refusal::Upstream(error) => error.to_string(),
        Refusal::Store(error) => error.to_string(),
        Refusal::UpstreamStatus { status, .. } => format!("the upstream answered {}", status.as_u16()),
        other => format!("{other:?}"),
    })
}

fn answer(project: &Project, stored: &[Stored], findings: &[Finding], session: &Session) -> Answer {
    let row = |finding: &Finding| {
        let (policy, hook) = match &finding.asked {
            Some((policy, hook)) => (policy.clone(), hook.name().to_owned()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let message = match &finding.asked {
            Some(_) if finding.failed => format!("the policy failed: {}", finding.message),
            _ => finding.message.clone(),
        };
        vec![finding.repository.to_string(), finding.what.clone(), policy, hook, message]
    };
    let mut text = String::new();
    if !findings.is_empty() {
        text.push_str(&table::render(&COLUMNS, &findings.iter().map(row).collect::<Vec<_>>(), session.width));
        text.push('\n');
    }
    let repositories = stored.iter().map(|one| &one.repository).collect::<BTreeSet<_>>().len();
    let (judged, unread): (Vec<&Finding>, Vec<_>) = findings.iter().partition(|finding| finding.asked.is_some());
    let refused = judged.iter().map(|one| (&one.repository, &one.what)).collect::<BTreeSet<_>>().len();
    let unread = unread.len();
    text.push_str(&format!(
        "{} manifests in {repositories} repositories of {}: {refused} would be refused",
        stored.len(),
        project.name
    ));
    if unread > 0 {
        text.push_str(&format!(", {unread} cannot be read"));
    }
    text.push('\n');
    let one = |finding: &Finding| -> Value {
        json!({
            "repository": finding.repository.as_str(),
            "what": finding.what,
            "policy": finding.asked.as_ref().map(|(policy, _)| policy),
            "hook": finding.asked.as_ref().map(|(_, hook)| hook),
            "message": finding.message,
            "failed": finding.failed,
        })
    };
    let findings: Vec<Value> = findings.iter().map(one).collect();
    let json = json!({
        "manifests": stored.len(),
        "repositories": repositories,
        "refused": refused,
        "unreadable": unread,
        "findings": findings,
    });
    Answer::new(text, json)
}
