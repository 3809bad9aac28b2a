//! An image's config, as far as policies are shown it (OCI Image Specification, "Image Configuration"), read as strictly as a
//! manifest: clients written in Go fold the case of keys and take the last of two, so that what could be read in two ways is
//! refused.

use super::fields::Object;
use super::json::{self, Keys};
use super::{Platform, invalid};
use crate::ProtocolError;

/// What an image's config says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// `os`, `architecture` and `variant`; empty where one is missing, which is how Go reads it.
    pub platform: Platform,
    /// `created`, as it stands there.
    pub created: Option<String>,
    /// `config.User`; empty is missing.
    pub user: Option<String>,
    /// `config.Labels`, in the document's order.
    pub labels: Vec<(String, String)>,
}

impl ImageConfig {
    /// Reads a config, whose size the caller has capped. Refused are duplicate keys anywhere, keys that only their case tells
    /// from one that is read, and other types than a string or an object where one is wanted; `null` is missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let document = json::read(bytes, Keys::Config)
            .map_err(|error| invalid(format!("the image's config is no unambiguous JSON: {error}")))?;
        let root = Object::root("the image's config", &document)?;
        let run = root.object("config")?;
        let run = run.as_ref();
        let user = run.map(|run| run.string_or_null("User")).transpose()?.flatten();
        let labels = run.map(|run| run.object("Labels")?.map_or_else(|| Ok(Vec::new()), |labels| labels.all_strings()));
        Ok(Self {
            platform: Platform {
                os: root.string_or_null("os")?.unwrap_or_default().to_owned(),
                architecture: root.string_or_null("architecture")?.unwrap_or_default().to_owned(),
                variant: root.string_or_null("variant")?.filter(|variant| !variant.is_empty()).map(str::to_owned),
            },
            created: root.string_or_null("created")?.map(str::to_owned),
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            labels: labels.transpose()?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests;
