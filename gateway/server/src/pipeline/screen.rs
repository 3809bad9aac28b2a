//! The policies → [`Screened`]: the platform's, then the project's, at each hook that one of them names. Where none does,
//! nothing is looked up and nobody is asked.

mod chain;
mod lookup;
mod observe;
mod question;
mod token;

pub use lookup::{Found, Lookup, Seen};
pub use observe::Observer;
pub use token::{TokenAsk, ask as ask_about_token};

use super::Visit;
use super::authorize::{Granted, insufficient, required};
use super::identify::Caller;
use super::inspect::{Inspected, Payload};
use super::respond::{Refusal, unknown_manifest};
use super::settle::Meter;
use crate::tag_lock::TagLocks;
use portcullis_oci::route::UploadStart;
use portcullis_oci::{ErrorCode, Operation, ProtocolError, Reference, RepositoryName, Tag};
use portcullis_policy::question::{Ask, Context, Fact, FactSet, Hook, Question, Target};
use portcullis_tenancy::{Project, StoreError};
use std::sync::Arc;

/// An operation that no policy refuses. Only this stage makes one.
pub struct Screened {
    inspected: Inspected,
    leave: Leave,
}

/// What screening leaves for forwarding.
#[derive(Default)]
pub struct Leave {
    /// The locks under which a tag was looked at: they are held until the write that was judged by it is done.
    pub locks: Option<TagLocks>,
    /// The manifest that policies have seen.
    pub seen: Option<Seen>,
    /// For the client.
    pub warnings: Vec<String>,
}

impl Screened {
    /// Whether tags were locked to be looked at.
    pub(super) fn has_locks(&self) -> bool {
        self.leave.locks.is_some()
    }

    /// What was granted before a manifest was read, or a lock was waited for; none where nothing took long.
    pub(super) fn granted_before_waiting(&self) -> Option<&Granted> {
        let waited = self.leave.locks.is_some() || matches!(self.inspected.payload(), Payload::Manifest { .. });
        waited.then(|| self.inspected.granted())
    }

    /// What was granted.
    pub(super) fn granted(&self) -> &Granted {
        self.inspected.granted()
    }

    /// What goes along.
    pub(super) fn payload(&self) -> &Payload {
        self.inspected.payload()
    }

    pub(super) fn into_parts(self) -> (Inspected, Leave) {
        (self.inspected, self.leave)
    }
}

/// Asks everybody who wants to be asked.
pub async fn screen(visit: &Arc<Visit>, mut inspected: Inspected, meter: &mut Meter) -> Result<Screened, Refusal> {
    if let Some(source) = inspected.granted().mount_source().cloned()
        && !may_mount(visit, &inspected, &source, meter).await?
    {
        inspected.give_up_mount();
    }
    let pass = |inspected| Ok(Screened { inspected, leave: Leave::default() });
    let Some(project) = concerned(visit, inspected.granted()).await? else { return pass(inspected) };
    let (operation, caller) = (inspected.granted().operation(), inspected.granted().caller());
    let asks = |hook: Hook| visit.policies.asks(&project.id.0, hook);
    let asked: Vec<Hook> = hooks(operation).iter().copied().filter(|hook| asks(*hook)).collect();
    let of_token = asks(Hook::Token) && matches!(caller, Caller::Robot { .. });
    if asked.is_empty() && !of_token && !asks(Hook::Response) {
        return pass(inspected);
    }
    let robot = caller.robot().map(AsRef::as_ref);
    let context = question::context(visit, robot, &project, meter.request_id());
    if asks(Hook::Response)
        && let Some(request) = question::request(visit, operation)
    {
        meter.observe(Observer::new(&visit.policies, &project, context.clone(), request));
    }
    // Credentials that are sent along are as good as a token for this one request, and no better.
    let mut leave = Leave::default();
    if of_token {
        let covered = token::covers(visit, robot, &project, meter.request_id(), &required(operation)).await?;
        leave.warnings.extend(covered.ok_or_else(|| insufficient(operation, true))?);
    }
    let mut case = Case { visit, project: &project, context, leave };
    let lookup = Lookup::new(&visit.worker, &project, operation.repository());
    case.take_locks(&lookup, operation, &asked).await?;
    for hook in asked {
        case.ask(hook, &inspected, &lookup).await?;
    }
    let leave = case.leave;
    Ok(Screened { inspected, leave })
}

/// The project whose policies are asked beside the platform's: the repository's; for the catalogue, which is of no one
/// project, the caller's own.
async fn concerned(visit: &Visit, granted: &Granted) -> Result<Option<Arc<Project>>, Refusal> {
    match (granted.operation(), granted.caller().robot()) {
        (Operation::Catalog { .. }, Some(robot)) => {
            let own = visit.worker.app.store.project(robot.project_name.as_str()).await?;
            // A project made anew under the same name is not the robot's.
            let own = own.filter(|own| own.id == robot.project).ok_or(StoreError::Missing)?;
            Ok(Some(own))
        }
        _ => Ok(granted.project().cloned()),
    }
}

/// Where a policy can be asked about an operation.
const fn hooks(operation: &Operation) -> &'static [Hook] {
    match operation {
        Operation::Ping | Operation::UploadStatus { .. } | Operation::UploadCancel { .. } => &[],
        Operation::ManifestPush { .. } => &[Hook::Request, Hook::ManifestPush],
        Operation::ManifestPull { .. }
        | Operation::ManifestHead { .. }
        | Operation::BlobPull { .. }
        | Operation::BlobHead { .. } => &[Hook::Request, Hook::Pull],
        _ => &[Hook::Request],
    }
}

/// One operation before its judges.
struct Case<'a> {
    visit: &'a Arc<Visit>,
    project: &'a Project,
    context: Context,
    leave: Leave,
}

impl Case<'_> {
    fn wants(&self, hook: Hook) -> FactSet {
        self.visit.policies.wants(&self.project.id.0, hook)
    }

    /// Who decides by where a tag points decides under its lock, from that look to the write.
    async fn take_locks(&mut self, lookup: &Lookup<'_>, operation: &Operation, asked: &[Hook]) -> Result<(), Refusal> {
        let wants = asked.iter().fold(FactSet::default(), |wants, hook| wants.union(self.wants(*hook)));
        if !wants.contains(Fact::TagDigest) && !wants.contains(Fact::TagsOfDigest) {
            return Ok(());
        }
        let tags: Vec<Tag> = match operation {
            Operation::ManifestPush { tags, .. } => tags.clone(),
            Operation::TagDelete { tag, .. } => vec![tag.clone()],
            Operation::ManifestDelete { digest, .. } => lookup.tags_of(digest).await?,
            _ => return Ok(()),
        };
        let Some(repository) = operation.repository() else { return Ok(()) };
        let store = &self.visit.worker.app.store;
        self.leave.locks = Some(TagLocks::take(store, &self.project.id, repository, tags).await?);
        Ok(())
    }

    async fn ask(&mut self, hook: Hook, inspected: &Inspected, lookup: &Lookup<'_>) -> Result<(), Refusal> {
        let (operation, wants) = (inspected.granted().operation(), self.wants(hook));
        let mut found = Found::default();
        let (ask, raw) = match (hook, operation, inspected.payload()) {
            (Hook::ManifestPush, Operation::ManifestPush { .. }, Payload::Manifest { bytes, manifest }) => {
                let target = Target { digest: Some(manifest.digest.to_string()), ..question::target(operation) };
                let raw = std::str::from_utf8(bytes).ok().map(Arc::from);
                (Ask::ManifestPush { target, manifest: lookup.record(manifest, wants, &mut found).await }, raw)
            }
            (
                Hook::Pull,
                Operation::ManifestPull { repository, reference } | Operation::ManifestHead { repository, reference },
                _,
            ) => {
                let seen = match lookup.pulled(reference).await {
                    // Asked again a moment later, there might be something that nobody has judged.
                    Ok(seen) => seen.ok_or_else(|| unknown_manifest(repository, reference))?,
                    Err(refusal) => return self.fail(hook, refusal),
                };
                let target = Target { digest: Some(seen.digest.to_string()), ..question::target(operation) };
                let (raw, seen) = (seen.text(), self.leave.seen.insert(seen));
                // To policies it would look like a blob, and clients may read it all the same.
                let Some(manifest) = &seen.manifest else { return self.fail(hook, unreadable(repository, reference)) };
                let manifest = lookup.record(manifest, wants, &mut found).await;
                (Ask::Pull { target, manifest: Some(manifest) }, raw)
            }
            (Hook::Pull, ..) => (Ask::Pull { target: question::target(operation), manifest: None }, None),
            _ => match question::request(self.visit, operation) {
                Some(request) => (Ask::Request(request), None),
                None => return Ok(()),
            },
        };
        lookup.facts(&ask, wants, &mut found).await;
        let facts = Arc::new(found.facts);
        let question = Question { context: self.context.clone(), ask, facts, raw_manifest: raw };
        let answer = chain::ask(self.visit, self.project, question, found.refusal).await?;
        self.leave.warnings.extend(answer.warnings);
        Ok(())
    }

    /// Nobody can be asked at a hook; `refusal` is told where that counts.
    fn fail(&self, hook: Hook, refusal: Refusal) -> Result<(), Refusal> {
        let failure = lookup::failure(&refusal);
        chain::fail(self.visit, self.project, hook, &self.context.request_id, &failure, refusal).map(drop)
    }
}

fn unreadable(repository: &RepositoryName, reference: &Reference) -> Refusal {
    let message = format!(
        "{repository} {reference} is no manifest that this gateway takes, so that no policy can judge it; push the image again"
    );
    ProtocolError::new(ErrorCode::Denied, message).into()
}

/// A mount is a pull at its source first. Who may not pull there mounts nothing, and is not told why.
async fn may_mount(
    visit: &Arc<Visit>,
    inspected: &Inspected,
    source: &Arc<Project>,
    meter: &Meter,
) -> Result<bool, Refusal> {
    let granted = inspected.granted();
    let Operation::UploadStart { start: UploadStart::Mount { digest, from: Some(from) }, .. } = granted.operation()
    else {
        return Ok(true);
    };
    let pull = Operation::BlobPull { repository: from.clone(), digest: digest.clone() };
    let robot = granted.caller().robot().map(AsRef::as_ref);
    let asks = |hook: Hook| visit.policies.asks(&source.id.0, hook);
    let refused = |answer: Result<bool, Refusal>| match answer {
        Err(Refusal::Policy { .. }) => Ok(false),
        other => other,
    };
    if asks(Hook::Token)
        && matches!(granted.caller(), Caller::Robot { .. })
        && !refused(
            token::covers(visit, robot, source, meter.request_id(), &required(&pull)).await.map(|left| left.is_some()),
        )?
    {
        return Ok(false);
    }
    for hook in [Hook::Request, Hook::Pull].into_iter().filter(|hook| asks(*hook)) {
        let ask = match question::request(visit, &pull) {
            Some(request) if hook == Hook::Request => Ask::Request(request),
            _ => Ask::Pull { target: question::target(&pull), manifest: None },
        };
        let wants = visit.policies.wants(&source.id.0, hook);
        let mut found = Found::default();
        Lookup::new(&visit.worker, source, Some(from)).facts(&ask, wants, &mut found).await;
        let context = question::context(visit, robot, source, meter.request_id());
        let question = Question { context, ask, facts: Arc::new(found.facts), raw_manifest: None };
        if !refused(chain::ask(visit, source, question, found.refusal).await.map(|_| true))? {
            return Ok(false);
        }
    }
    Ok(true)
}
