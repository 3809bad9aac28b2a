//! (method, path, query) → [`Operation`], in one match. What is not exactly one known operation is refused.
//!
//! The path must be canonical as it stands: no percent-encoding, no `//`, no `.` or `..`. Query values may be
//! percent-encoded; known parameters may stand once, form-style repetition is refused, unknown ones are dropped.

mod path;
mod query;

use crate::error::Excerpt;
use crate::{Digest, ProtocolError, Reference, RepositoryName, Tag};
use http::{Method, StatusCode};
use path::{Endpoint, digest, reference, reference_to_read, repository, session, unsupported};

/// Where a list goes on, and how long it may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// `n`: most entries; `Some(0)` is an empty list.
    pub n: Option<u32>,
    /// `last`: entries after this one. Only a position, never a claim that it exists. At most 512 bytes, no control characters.
    pub last: Option<String>,
}

/// How an upload starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadStart {
    /// An empty session.
    Session,
    /// `?digest=`: all bytes are in this request.
    Monolithic(Digest),
    /// `?mount=&from=`: the blob is already in another repository.
    Mount {
        /// Which blob.
        digest: Digest,
        /// From where; may be left out (1.1). A `from` that is no valid name counts as left out.
        from: Option<RepositoryName>,
    },
}

/// The gateway's own name of an upload session: the sealed last segment of an upload location. URL-safe base64 only, at most 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken(pub Box<str>);

/// One operation of the specification (its section "Endpoints").
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // fields are what their types say
pub enum Operation {
    /// `GET|HEAD /v2/`
    Ping,
    /// `GET /v2/_catalog`
    Catalog { page: Page },
    /// `GET /v2/<name>/tags/list`
    TagsList { repository: RepositoryName, page: Page },
    /// `GET /v2/<name>/referrers/<digest>`; `last` is the position of the page before, as its `Link` named it.
    Referrers { repository: RepositoryName, digest: Digest, artifact_type: Option<String>, last: Option<Digest> },
    /// `GET /v2/<name>/manifests/<reference>`
    ManifestPull { repository: RepositoryName, reference: Reference },
    /// `HEAD /v2/<name>/manifests/<reference>`
    ManifestHead { repository: RepositoryName, reference: Reference },
    /// `GET /v2/<name>/blobs/<digest>`
    BlobPull { repository: RepositoryName, digest: Digest },
    /// `HEAD /v2/<name>/blobs/<digest>`
    BlobHead { repository: RepositoryName, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/`
    UploadStart { repository: RepositoryName, start: UploadStart },
    /// `PATCH <location>`
    UploadChunk { repository: RepositoryName, session: SessionToken },
    /// `PUT <location>?digest=`
    UploadFinish { repository: RepositoryName, session: SessionToken, digest: Digest },
    /// `GET <location>`
    UploadStatus { repository: RepositoryName, session: SessionToken },
    /// `DELETE <location>`
    UploadCancel { repository: RepositoryName, session: SessionToken },
    /// `PUT /v2/<name>/manifests/<reference>[?tag=…]`; `tags` holds the reference's tag and every `tag` parameter.
    ManifestPush { repository: RepositoryName, reference: Reference, tags: Vec<Tag> },
    /// `DELETE /v2/<name>/manifests/<digest>`
    ManifestDelete { repository: RepositoryName, digest: Digest },
    /// `DELETE /v2/<name>/manifests/<tag>`
    TagDelete { repository: RepositoryName, tag: Tag },
    /// `DELETE /v2/<name>/blobs/<digest>`
    BlobDelete { repository: RepositoryName, digest: Digest },
}

/// Reads a request line. `path` and `query` are the request target's, as the client sent them.
///
/// Errors: `NAME_INVALID`, `TAG_INVALID`, `DIGEST_INVALID`, `PAGINATION_NUMBER_INVALID` (400), `BLOB_UPLOAD_UNKNOWN` (404 for a
/// location that the gateway cannot have given), `MANIFEST_UNKNOWN` (404 where a manifest is read by what is no tag),
/// `UNSUPPORTED` (405 for a known path with a method it lacks, 400 for what must not be sent, 404 for a path that is no
/// endpoint, 414 for a query that is too long).
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Operation, ProtocolError> {
    use Endpoint::{Blob, Catalog, Manifest, Ping, Referrers, Tags, Upload, Uploads};
    Ok(match (Endpoint::of(path)?, method) {
        (Ping, &Method::GET | &Method::HEAD) => {
            query::none(query)?;
            Operation::Ping
        }
        (Catalog, &Method::GET) => Operation::Catalog { page: query::page(query)? },
        (Tags(name), &Method::GET) => {
            let repository = repository(name)?;
            Operation::TagsList { repository, page: query::page(query)? }
        }
        (Referrers(name, text), &Method::GET) => {
            let (repository, digest) = (repository(name)?, digest(text)?);
            let (artifact_type, last) = query::referrers(query)?;
            Operation::Referrers { repository, digest, artifact_type, last }
        }
        (Manifest(name, text), &Method::GET | &Method::HEAD) => {
            let (repository, reference) = (repository(name)?, reference_to_read(text)?);
            query::none(query)?;
            match *method {
                Method::GET => Operation::ManifestPull { repository, reference },
                _ => Operation::ManifestHead { repository, reference },
            }
        }
        (Manifest(name, text), &Method::PUT) => {
            let (repository, reference) = (repository(name)?, reference(text)?);
            let tags = query::tags(query, &reference)?;
            Operation::ManifestPush { repository, reference, tags }
        }
        (Manifest(name, text), &Method::DELETE) => {
            let (repository, reference) = (repository(name)?, reference(text)?);
            query::none(query)?;
            match reference {
                Reference::Digest(digest) => Operation::ManifestDelete { repository, digest },
                Reference::Tag(tag) => Operation::TagDelete { repository, tag },
            }
        }
        (Blob(name, text), &Method::GET | &Method::HEAD | &Method::DELETE) => {
            let (repository, digest) = (repository(name)?, digest(text)?);
            query::none(query)?;
            match *method {
                Method::GET => Operation::BlobPull { repository, digest },
                Method::HEAD => Operation::BlobHead { repository, digest },
                _ => Operation::BlobDelete { repository, digest },
            }
        }
        (Uploads(name), &Method::POST) => {
            let repository = repository(name)?;
            Operation::UploadStart { repository, start: query::upload_start(query)? }
        }
        (Upload(name, text), &Method::PUT) => {
            let (repository, session) = (repository(name)?, session(text)?);
            Operation::UploadFinish { repository, session, digest: query::digest(query)? }
        }
        (Upload(name, text), &Method::PATCH | &Method::GET | &Method::DELETE) => {
            let (repository, session) = (repository(name)?, session(text)?);
            query::none(query)?;
            match *method {
                Method::PATCH => Operation::UploadChunk { repository, session },
                Method::GET => Operation::UploadStatus { repository, session },
                _ => Operation::UploadCancel { repository, session },
            }
        }
        (endpoint, _) => return Err(method_not_allowed(method, endpoint.methods())),
    })
}

impl Operation {
    /// The repository, where the operation has one.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Ping | Self::Catalog { .. } => None,
            Self::TagsList { repository, .. }
            | Self::Referrers { repository, .. }
            | Self::ManifestPull { repository, .. }
            | Self::ManifestHead { repository, .. }
            | Self::BlobPull { repository, .. }
            | Self::BlobHead { repository, .. }
            | Self::UploadStart { repository, .. }
            | Self::UploadChunk { repository, .. }
            | Self::UploadFinish { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::UploadCancel { repository, .. }
            | Self::ManifestPush { repository, .. }
            | Self::ManifestDelete { repository, .. }
            | Self::TagDelete { repository, .. }
            | Self::BlobDelete { repository, .. } => Some(repository),
        }
    }

    /// All names that [`name`](Self::name) gives.
    pub const NAMES: [&'static str; 18] = [
        "ping",
        "catalog",
        "tags-list",
        "referrers",
        "manifest-pull",
        "manifest-head",
        "blob-pull",
        "blob-head",
        "mount",
        "upload-start",
        "upload-chunk",
        "upload-finish",
        "upload-status",
        "upload-cancel",
        "manifest-push",
        "manifest-delete",
        "tag-delete",
        "blob-delete",
    ];

    /// A stable name for logs and metrics: `ping`, `catalog`, `tags-list`, `referrers`, `manifest-pull`, `manifest-head`,
    /// `blob-pull`, `blob-head`, `upload-start`, `mount`, `upload-chunk`, `upload-finish`, `upload-status`, `upload-cancel`,
    /// `manifest-push`, `manifest-delete`, `tag-delete`, `blob-delete`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Catalog { .. } => "catalog",
            Self::TagsList { .. } => "tags-list",
            Self::Referrers { .. } => "referrers",
            Self::ManifestPull { .. } => "manifest-pull",
            Self::ManifestHead { .. } => "manifest-head",
            Self::BlobPull { .. } => "blob-pull",
            Self::BlobHead { .. } => "blob-head",
            Self::UploadStart { start: UploadStart::Mount { .. }, .. } => "mount",
            Self::UploadStart { .. } => "upload-start",
            Self::UploadChunk { .. } => "upload-chunk",
            Self::UploadFinish { .. } => "upload-finish",
            Self::UploadStatus { .. } => "upload-status",
            Self::UploadCancel { .. } => "upload-cancel",
            Self::ManifestPush { .. } => "manifest-push",
            Self::ManifestDelete { .. } => "manifest-delete",
            Self::TagDelete { .. } => "tag-delete",
            Self::BlobDelete { .. } => "blob-delete",
        }
    }

    /// Whether it changes what a registry holds, or an upload on its way there.
    pub const fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::Ping
                | Self::Catalog { .. }
                | Self::TagsList { .. }
                | Self::Referrers { .. }
                | Self::ManifestPull { .. }
                | Self::ManifestHead { .. }
                | Self::BlobPull { .. }
                | Self::BlobHead { .. }
                | Self::UploadStatus { .. }
        )
    }

    /// The method that carries it (GET for ping).
    pub fn method(&self) -> Method {
        match self {
            Self::Ping
            | Self::Catalog { .. }
            | Self::TagsList { .. }
            | Self::Referrers { .. }
            | Self::ManifestPull { .. }
            | Self::BlobPull { .. }
            | Self::UploadStatus { .. } => Method::GET,
            Self::ManifestHead { .. } | Self::BlobHead { .. } => Method::HEAD,
            Self::UploadStart { .. } => Method::POST,
            Self::UploadChunk { .. } => Method::PATCH,
            Self::UploadFinish { .. } | Self::ManifestPush { .. } => Method::PUT,
            Self::UploadCancel { .. }
            | Self::ManifestDelete { .. }
            | Self::TagDelete { .. }
            | Self::BlobDelete { .. } => Method::DELETE,
        }
    }

    /// Path and query, rebuilt from the parsed parts alone, with the repository's name replaced by `name` (its upstream name).
    /// With the public name, `route` reads the result as the same operation. A mount's `from` stands as it is in the operation.
    pub fn path_and_query(&self, name: &str) -> String {
        let mut target = String::with_capacity(TYPICAL_TARGET_BYTES);
        target.push_str("/v2/");
        let mut push = |parts: &[&str]| parts.iter().for_each(|part| target.push_str(part));
        match self {
            Self::Ping => {}
            Self::Catalog { .. } => push(&["_catalog"]),
            Self::TagsList { .. } => push(&[name, "/tags/list"]),
            Self::Referrers { digest, .. } => push(&[name, "/referrers/", digest.as_str()]),
            Self::ManifestPull { reference, .. }
            | Self::ManifestHead { reference, .. }
            | Self::ManifestPush { reference, .. } => {
                push(&[name, "/manifests/", reference.as_str()]);
            }
            Self::ManifestDelete { digest, .. } => push(&[name, "/manifests/", digest.as_str()]),
            Self::TagDelete { tag, .. } => push(&[name, "/manifests/", tag.as_str()]),
            Self::BlobPull { digest, .. } | Self::BlobHead { digest, .. } | Self::BlobDelete { digest, .. } => {
                push(&[name, "/blobs/", digest.as_str()]);
            }
            Self::UploadStart { .. } => push(&[name, "/blobs/uploads/"]),
            Self::UploadChunk { session, .. }
            | Self::UploadFinish { session, .. }
            | Self::UploadStatus { session, .. }
            | Self::UploadCancel { session, .. } => push(&[name, "/blobs/uploads/", &session.0]),
        }
        query::push(&mut target, self);
        target
    }
}

/// A name, a digest and what stands between them.
const TYPICAL_TARGET_BYTES: usize = 160;

fn method_not_allowed(method: &Method, allowed: &[&str]) -> ProtocolError {
    let message = format!("this endpoint takes {}, not {}", allowed.join(", "), Excerpt(method.as_str()));
    unsupported(StatusCode::METHOD_NOT_ALLOWED, message).with_detail(serde_json::json!({ "allow": allowed }))
}

#[cfg(test)]
mod tests;
