//! Which platforms images may be for.

use portcullis_policy_sdk::prelude::*;

/// How builders mark what is in an index but is no image: attestations.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// The platforms.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Patterns of platforms that are allowed: `linux/amd64`, `linux/arm64/v8`, `linux/*`. One without a variant means
    /// every variant.
    allow: Globs,
    /// What becomes of an image whose platform is not known.
    #[serde(default)]
    unknown: Verdict,
    /// What becomes of what is no image: charts, signatures and the like.
    #[serde(default = "allowed")]
    artifacts: Verdict,
}

/// What becomes of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It passes.
    Allow,
    /// It is refused.
    #[default]
    Deny,
}

struct Platforms(Settings);

impl Policy for Platforms {
    type Settings = Settings;
    const NAME: &'static str = "platforms";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::ManifestPush];
    const WANTS: &'static [Fact] = &[Fact::ImageConfig];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        if settings.allow.is_empty() {
            return Err(Problems::one("allow", "name at least one platform, such as linux/amd64"));
        }
        Ok(Platforms(settings))
    }

    fn on_manifest_push(&self, _: &Context, _: &Target, manifest: &Manifest) -> Decision {
        let fault = if manifest.is_index() {
            let images = manifest.children.iter().filter(|child| !is_attestation(child));
            images.into_iter().find_map(|child| self.fault(child.platform.as_ref()))
        } else if manifest.is_image() {
            self.fault(facts::image_config().as_ref().map(|config| &config.platform))
        } else if self.0.artifacts == Verdict::Deny {
            let found = manifest.config.as_ref().map_or("no configuration", |config| &config.media_type);
            Some(format!("this is no image, and only images may be pushed (found {found})"))
        } else {
            None
        };
        fault.map_or(Decision::Abstain, deny)
    }
}

policy!(Platforms);

impl Platforms {
    fn fault(&self, platform: Option<&Platform>) -> Option<String> {
        let settings = &self.0;
        let Some(platform) = platform.filter(|p| is_known(&p.os) && is_known(&p.architecture)) else {
            let refused = settings.unknown == Verdict::Deny;
            return refused.then(|| format!("the platform is not known, allowed are {}", settings.allow));
        };
        let system = format!("{}/{}", platform.os, platform.architecture);
        let full = platform.cpu_variant.as_deref().filter(|v| !v.is_empty()).map(|v| format!("{system}/{v}"));
        if settings.allow.matches(&system) || full.as_deref().is_some_and(|full| settings.allow.matches(full)) {
            return None;
        }
        Some(format!("platform {} is not allowed, allowed are {}", full.unwrap_or(system), settings.allow))
    }
}

fn is_known(part: &str) -> bool {
    !part.is_empty() && part != "unknown"
}

/// Whether an index's child is an attestation. It says so of itself, but it also says that it runs nowhere.
fn is_attestation(child: &Descriptor) -> bool {
    let nowhere = child.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
    nowhere && child.annotations.iter().any(|(name, value)| name == REFERENCE_TYPE && value == "attestation-manifest")
}

fn allowed() -> Verdict {
    Verdict::Allow
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<Platforms>("cases");
    }
}
