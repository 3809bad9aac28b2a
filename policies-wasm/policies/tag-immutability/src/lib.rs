//! Tags that stay what they are: once pushed, they are neither moved nor deleted.

use portcullis_policy_sdk::prelude::*;

/// Which tags stay.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Whether versions stay: `1.2.3`, `v1.2.3`, `1.2.3-rc.1`.
    semver: bool,
    /// Patterns of tags that stay, too.
    patterns: Globs,
    /// Patterns of tags that may change nevertheless.
    except: Globs,
    /// Patterns of the repositories where this holds.
    repositories: Globs,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { semver: true, patterns: Globs::default(), except: Globs::default(), repositories: Globs::all() }
    }
}

struct TagImmutability(Settings);

impl Policy for TagImmutability {
    type Settings = Settings;
    const NAME: &'static str = "tag-immutability";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Request, Hook::ManifestPush];
    const WANTS: &'static [Fact] = &[Fact::TagDigest, Fact::TagsOfDigest];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        if !settings.semver && settings.patterns.is_empty() {
            return Err(Problems::one("patterns", "no tag would stay: name patterns, or set semver"));
        }
        Ok(TagImmutability(settings))
    }

    fn on_request(&self, _: &Context, request: &Request) -> Decision {
        if !matches!(request.operation, Operation::TagDelete | Operation::ManifestDelete) {
            return Decision::Abstain;
        }
        let Some(target) = &request.target else {
            return deny("what is to be deleted is not known, so it might be an immutable tag");
        };
        if !self.0.repositories.matches(&target.repository) {
            return Decision::Abstain;
        }
        // A tag that is not there needs no protection: the registry says so itself.
        let there = |tag: &&String| self.stays(tag) && facts::tag_digest(tag).is_some();
        if let Some(tag) = target.tags.iter().find(there) {
            return deny(format!("tag {tag} is immutable and cannot be deleted"));
        }
        let held = target.digest.as_deref().map(facts::tags_of_digest).unwrap_or_default();
        if let Some(tag) = held.iter().find(|tag| self.stays(tag)) {
            return deny(format!("this manifest cannot be deleted: the immutable tag {tag} points to it"));
        }
        Decision::Abstain
    }

    fn on_manifest_push(&self, _: &Context, target: &Target, manifest: &Manifest) -> Decision {
        if !self.0.repositories.matches(&target.repository) {
            return Decision::Abstain;
        }
        for tag in target.tags.iter().filter(|tag| self.stays(tag)) {
            if let Some(digest) = facts::tag_digest(tag).filter(|digest| *digest != manifest.digest) {
                return deny(format!("tag {tag} is immutable and already points to {}", short(&digest)));
            }
        }
        Decision::Abstain
    }
}

policy!(TagImmutability);

impl TagImmutability {
    fn stays(&self, tag: &str) -> bool {
        let settings = &self.0;
        let named = (settings.semver && is_version(tag)) || settings.patterns.matches(tag);
        named && !settings.except.matches(tag) && !is_referrers_tag(tag)
    }
}

/// Whether a tag is a version with three numbers, perhaps with `v` before and a pre-release or, as `_`, a build after.
fn is_version(tag: &str) -> bool {
    let version = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
    let end = version.find(['-', '_']).unwrap_or(version.len());
    let (numbers, rest) = version.split_at_checked(end).unwrap_or((version, ""));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').count() == 3 && numbers.split('.').all(is_number) && rest.len() != 1
}

/// Enough of a digest to know it by.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<TagImmutability>("cases");
    }

    #[test]
    fn versions_have_three_numbers() {
        for tag in ["1.2.3", "v1.2.3", "V0.0.0", "1.2.3-rc.1", "1.2.3_build5", "2026.11.23"] {
            assert!(is_version(tag), "{tag}");
        }
        for tag in ["", "v", "1", "1.2", "1.2.3.4", "1.2.x", "latest", "1.2.3-", "1..3", "1.2.3a"] {
            assert!(!is_version(tag), "{tag}");
        }
    }
}
