//! `[tokens]`: how long what is issued goes on.

use super::DAY;
use super::hint::shown;
use super::reader::Section;
use portcullis_tenancy::key::Algorithm;
use std::time::Duration;

/// `[tokens]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// `algorithm`: `"ed25519"` (default) or `"es256"`.
    pub algorithm: Algorithm,
    /// `service`: default `"portcullis"`.
    pub service: String,
    /// `life_s`: of an access token; 60 to 3600, default 300.
    pub life: Duration,
    /// `upload_grace_s`: how long an upload may go on after it began, whatever its token's end.
    pub upload_grace: Duration,
    /// `rotation_grace_s`: how long a rotated secret goes on, where the command does not say.
    pub rotation_grace: Duration,
}

pub(super) fn read(mut section: Section<'_>) -> Option<Tokens> {
    let algorithm = section.choice("algorithm", &[("ed25519", Algorithm::EdDsa), ("es256", Algorithm::Es256)]);
    let service = section.string("service", "portcullis", |text| {
        // It stands between quotes in a challenge (RFC 9110, section 5.6.4), where a backslash or a quote would need care at every client.
        let plain = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if plain {
            Ok(text.to_owned())
        } else {
            Err(format!("\"{}\" cannot stand in a challenge; write 1 to 128 letters, digits and signs without spaces, quotes and backslashes", shown(text)))
        }
    });
    let life = section.seconds(
        "life_s",
        300,
        60..=3600,
        "clients take a shorter one for a mistake, and a longer one is asked for seldom enough",
    );
    let upload_grace = section.seconds("upload_grace_s", DAY, 0..=30 * DAY, "an upload is given up then");
    let rotation_grace = section.seconds("rotation_grace_s", DAY, 0..=90 * DAY, "a secret that was rotated should end");
    section.finish();
    Some(Tokens {
        algorithm: algorithm?,
        service: service.unwrap_or_else(|| "portcullis".to_owned()),
        life,
        upload_grace,
        rotation_grace,
    })
}
