//! Upload locations of our own: the upstream's location, and whose upload it is, sealed so that a client can neither read
//! nor change them. Distribution's `_state` holds the upstream's name in clear.

use crate::app::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use portcullis_oci::route::SessionToken;
use portcullis_oci::{ErrorCode, ProtocolError, RepositoryName};
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

impl Session {
    /// A chunk that says where it belongs belongs where the upload has got to. Distribution 2.x does not look: it would put
    /// any chunk at the end.
    pub fn check_turn(&self, headers: &HeaderMap) -> Result<(), ProtocolError> {
        let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let fits = first_and_last(range).is_some_and(|(first, last)| {
            let chunk = last.checked_sub(first).and_then(|more| more.checked_add(1));
            first == self.offset && chunk.is_some_and(|chunk| length.is_none_or(|length| length == chunk))
        });
        if fits && headers.get_all(header::CONTENT_RANGE).iter().count() == 1 {
            return Ok(());
        }
        let message = format!(
            "the chunk's Content-Range must be `{0}-<last>`, as long as its body: the upload has {0} bytes so far",
            self.offset
        );
        Err(ProtocolError::new(ErrorCode::RangeInvalid, message))
    }
}

/// `<first>-<last>`, in digits alone.
pub fn first_and_last(range: &HeaderValue) -> Option<(u64, u64)> {
    let (first, last) = range.to_str().ok()?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((number(first)?, number(last)?))
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
