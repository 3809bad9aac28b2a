//! Upload locations of our own: the upstream's location, and whose upload it is, sealed so that a client can neither read
//! nor change them. Distribution's `_state` holds the upstream's name in clear.

use crate::app::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_oci::RepositoryName;
use portcullis_oci::route::SessionToken;
use portcullis_tenancy::key::SealKey;
use portcullis_tenancy::{ProjectId, RobotId};
use serde::{Deserialize, Serialize};

/// What a sealed location holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The upload's id: its row in the store.
    #[serde(rename = "i")]
    pub upload: Box<str>,
    /// The project's id.
    #[serde(rename = "p")]
    pub project: Box<str>,
    /// The repository, by its public name.
    #[serde(rename = "n")]
    pub repository: Box<str>,
    /// The robot's id.
    #[serde(rename = "r")]
    pub robot: Box<str>,
    /// How many bytes the upload has: where its next chunk begins.
    #[serde(rename = "o")]
    pub offset: u64,
    /// Path and query of the upstream's location.
    #[serde(rename = "u")]
    pub upstream: Box<str>,
}

impl Session {
    /// Whether this is an upload of that robot into that repository.
    pub fn belongs_to(&self, project: &ProjectId, repository: &RepositoryName, robot: &RobotId) -> bool {
        self.project == project.0 && *self.repository == *repository.as_str() && self.robot == robot.0
    }
}

/// Seals and opens locations.
pub struct UploadLocations(SealKey);

const CONTEXT: &[u8] = b"upload location";

impl UploadLocations {
    /// With the deployment's key for this purpose.
    pub fn new(key: SealKey) -> Self {
        Self(key)
    }

    /// `/v2/<repository>/blobs/uploads/<sealed>`
    pub fn location(&self, session: &Session) -> String {
        let plain = serde_json::to_vec(session).expect("strings serialise");
        let sealed = URL_SAFE_NO_PAD.encode(self.0.seal(CONTEXT, &plain, &random));
        format!("/v2/{}/blobs/uploads/{sealed}", session.repository)
    }

    /// What a location holds, if it is ours.
    pub fn open(&self, token: &SessionToken) -> Option<Session> {
        let sealed = URL_SAFE_NO_PAD.decode(token.0.as_bytes()).ok()?;
        let plain = self.0.open(CONTEXT, &sealed).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}
