//! Limits an image's size, the number of its layers, and the size of each.

use portcullis_policy_sdk::prelude::*;

/// The limits; what is left out is not limited.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Most bytes of all layers and the configuration, as they are stored.
    max_size: Option<Bytes>,
    /// Most layers.
    max_layers: Option<u32>,
    /// Most bytes of one layer.
    max_layer_size: Option<Bytes>,
}

struct ImageLimits(Settings);

impl Policy for ImageLimits {
    type Settings = Settings;
    const NAME: &'static str = "image-limits";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::ManifestPush];
    const WANTS: &'static [Fact] = &[Fact::StoredSizes];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let limits = [settings.max_size.is_some(), settings.max_layers.is_some(), settings.max_layer_size.is_some()];
        if !limits.contains(&true) {
            return Err(Problems::one("", "one of max-size, max-layers and max-layer-size has to be set"));
        }
        Ok(ImageLimits(settings))
    }

    fn on_manifest_push(&self, _: &Context, _: &Target, manifest: &Manifest) -> Decision {
        // An index refers to images that were judged when they came.
        if let Some(limit) = self.0.max_layers {
            let found = manifest.layers.len();
            if u32::try_from(found).map_or(true, |found| found > limit) {
                return deny(format!("image has {found} layers, limit {limit}"));
            }
        }
        if let Some(limit) = self.0.max_layer_size {
            for (number, layer) in (1_usize..).zip(&manifest.layers) {
                if let Some(message) = too_large(&format!("layer {number}"), size(layer), limit) {
                    return deny(message);
                }
            }
        }
        if let Some(limit) = self.0.max_size {
            // A sum that does not fit is above any limit.
            let total = manifest.layers.iter().chain(&manifest.config).map(size).fold(0, u64::saturating_add);
            if let Some(message) = too_large("image", total, limit) {
                return deny(message);
            }
        }
        Decision::Abstain
    }
}

policy!(ImageLimits);

/// What is stored, where that is known: a manifest may say anything.
fn size(part: &Descriptor) -> u64 {
    part.stored_size.unwrap_or(part.size)
}

fn too_large(what: &str, found: u64, limit: Bytes) -> Option<String> {
    if found <= limit.0 {
        return None;
    }
    let (shown, shown_limit) = (Bytes(found).to_string(), limit.to_string());
    // Where rounding hides the difference, the bytes show it.
    Some(if shown == shown_limit {
        format!("{what} is {found} bytes, limit {} bytes", limit.0)
    } else {
        format!("{what} is {shown}, limit {shown_limit}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<ImageLimits>("cases");
    }

    #[test]
    fn a_sum_that_does_not_fit_is_above_any_limit() {
        let limits = Settings { max_size: Some(Bytes(u64::MAX - 1)), ..Settings::default() };
        let policy = ImageLimits::configure(limits).unwrap();
        let image = testing::image(&[u64::MAX, u64::MAX]);
        let decision = policy.on_manifest_push(&testing::context(), &testing::target("acme/app", "1"), &image);
        assert!(matches!(decision, Decision::Deny(_)));
    }
}
