//! What policies often ask of a question.

use crate::{Context, Globs, Manifest, SubjectKind, Target};

/// Media types of the configuration of an image that can be run.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Media types of an index.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

impl Context {
    /// The robot's user name, `project+name`; none where it is no robot that asks.
    pub fn robot(&self) -> Option<&str> {
        (self.subject.kind == SubjectKind::Robot).then_some(self.subject.id.as_str())
    }

    /// Whether a robot asks whose user name or whose name within the project matches.
    pub fn is_robot(&self, names: &Globs) -> bool {
        let Some(username) = self.robot() else { return false };
        let name = username.split_once('+').map(|(_, name)| name);
        names.matches(username) || name.is_some_and(|name| names.matches(name))
    }
}

impl Manifest {
    /// Whether it refers to other manifests, one for each platform.
    pub fn is_index(&self) -> bool {
        INDEXES.contains(&self.media_type.as_str())
    }

    /// Whether it is an image that can be run, and not a chart, a signature or another artifact.
    pub fn is_image(&self) -> bool {
        self.config.as_ref().is_some_and(|config| IMAGE_CONFIGS.contains(&config.media_type.as_str()))
    }
}

impl Target {
    /// The repository with the tag or the digest, as people write it.
    pub fn shown(&self) -> String {
        match (self.tags.first(), &self.digest) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, Some(digest)) => format!("{}@{digest}", self.repository),
            (None, None) => self.repository.clone(),
        }
    }
}

/// Whether clients keep referrers under this tag, where a registry does not list them, or signatures: `sha256-` and the
/// digest, perhaps with an ending such as `.sig`. They change with every signature.
pub fn is_referrers_tag(tag: &str) -> bool {
    let Some((algorithm, rest)) = tag.split_once('-') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return false,
    };
    let (digest, ending) = rest.split_once('.').unwrap_or((rest, ""));
    // A tag has at most 128 characters, so that the longer digest is cut.
    digest.len() >= length.min(121)
        && digest.len() <= length
        && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && ending.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn referrers_tags_are_known_by_their_digest() {
        let digest = "0a".repeat(32);
        assert!(is_referrers_tag(&format!("sha256-{digest}")));
        assert!(is_referrers_tag(&format!("sha256-{digest}.sig")));
        for tag in
            ["sha256-1.0", "1.0", &format!("md5-{digest}"), &format!("sha256-{digest}0"), &format!("sha256-{digest}.A")]
        {
            assert!(!is_referrers_tag(tag), "{tag}");
        }
    }

    #[test]
    fn a_robot_is_named_with_or_without_its_project() {
        let context = testing::context();
        assert!(context.is_robot(&Globs::new(&["acme+ci"]).unwrap()));
        assert!(context.is_robot(&Globs::new(&["c?"]).unwrap()));
        assert!(!context.is_robot(&Globs::new(&["other+ci"]).unwrap()));
        let mut federated = testing::context();
        federated.subject.kind = SubjectKind::Federated;
        assert!(!federated.is_robot(&Globs::new(&["**"]).unwrap()));
    }
}
