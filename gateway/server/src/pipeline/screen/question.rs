//! What policies are asked, in the contract's own records. Headers come from an allow-list, never credentials.

use crate::pipeline::Visit;
use crate::telemetry::RequestId;
use http::header::{self, HeaderName};
use portcullis_oci::route::UploadStart;
use portcullis_oci::{Operation, Reference};
use portcullis_policy::question::{Context, Operation as Asked, Request, Subject, SubjectKind, Target};
use portcullis_tenancy::{Project, Robot};

/// Headers that policies may read.
const SHOWN: [HeaderName; 6] = [
    header::ACCEPT,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::RANGE,
    header::USER_AGENT,
];
/// Longest user agent that is shown, in characters.
const MAX_USER_AGENT: usize = 256;

/// Who asks, when and from where.
pub fn context(visit: &Visit, robot: Option<&Robot>, project: &Project, request_id: &RequestId) -> Context {
    let user_agent = visit.head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Context {
        request_id: request_id.to_string(),
        project: project.name.to_string(),
        now_ms: u64::try_from(visit.now.as_millisecond()).unwrap_or_default(),
        client_ip: visit.peer.to_string(),
        user_agent: user_agent.unwrap_or_default().chars().take(MAX_USER_AGENT).collect(),
        subject: robot.map_or_else(Subject::default, |robot| Subject {
            kind: SubjectKind::Robot,
            id: robot.username().to_string(),
            project: Some(robot.project_name.to_string()),
            issuer: None,
            claims_json: "{}".to_owned(),
        }),
    }
}

/// The request, where the contract knows its operation.
pub fn request(visit: &Visit, operation: &Operation) -> Option<Request> {
    let headers = &visit.head.headers;
    let shown = SHOWN.iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    Some(Request {
        operation: asked(operation)?,
        method: visit.head.method.as_str().to_owned(),
        target: operation.repository().is_some().then(|| target(operation)),
        headers: shown.collect(),
        length: headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
    })
}

/// What the operation is about.
pub fn target(operation: &Operation) -> Target {
    let (mut tags, mut digest) = (Vec::new(), None);
    match operation {
        Operation::ManifestPull { reference, .. } | Operation::ManifestHead { reference, .. } => match reference {
            Reference::Tag(tag) => tags.push(tag.to_string()),
            Reference::Digest(of) => digest = Some(of.to_string()),
        },
        Operation::ManifestPush { reference, tags: set, .. } => {
            tags.extend(set.iter().map(ToString::to_string));
            if let Reference::Digest(of) = reference {
                digest = Some(of.to_string());
            }
        }
        Operation::TagDelete { tag, .. } => tags.push(tag.to_string()),
        Operation::BlobPull { digest: of, .. }
        | Operation::BlobHead { digest: of, .. }
        | Operation::BlobDelete { digest: of, .. }
        | Operation::ManifestDelete { digest: of, .. }
        | Operation::UploadFinish { digest: of, .. }
        | Operation::Referrers { digest: of, .. }
        | Operation::UploadStart {
            start: UploadStart::Monolithic(of) | UploadStart::Mount { digest: of, .. }, ..
        } => digest = Some(of.to_string()),
        _ => {}
    }
    let repository = operation.repository().map(ToString::to_string).unwrap_or_default();
    Target { repository, tags, digest }
}

fn asked(operation: &Operation) -> Option<Asked> {
    Some(match operation {
        Operation::Ping | Operation::UploadStatus { .. } | Operation::UploadCancel { .. } => return None,
        Operation::Catalog { .. } => Asked::Catalog,
        Operation::TagsList { .. } => Asked::TagsList,
        Operation::Referrers { .. } => Asked::Referrers,
        Operation::ManifestPull { .. } => Asked::ManifestPull,
        Operation::ManifestHead { .. } => Asked::ManifestHead,
        Operation::BlobPull { .. } => Asked::BlobPull,
        Operation::BlobHead { .. } => Asked::BlobHead,
        Operation::UploadStart { start: UploadStart::Mount { .. }, .. } => Asked::Mount,
        Operation::UploadStart { .. } => Asked::UploadStart,
        Operation::UploadChunk { .. } => Asked::UploadChunk,
        Operation::UploadFinish { .. } => Asked::UploadFinish,
        Operation::ManifestPush { .. } => Asked::ManifestPush,
        Operation::ManifestDelete { .. } => Asked::ManifestDelete,
        Operation::TagDelete { .. } => Asked::TagDelete,
        Operation::BlobDelete { .. } => Asked::BlobDelete,
    })
}
