//! Annotations that an image must have, on its manifest or as labels of its configuration.

use portcullis_policy_sdk::prelude::*;
use std::collections::BTreeMap;

/// What is required.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Names with the pattern that each value has to match; `**` is any value but an empty one.
    require: BTreeMap<String, Glob>,
    /// Whether labels of the image's configuration count, where `docker build` and most builders put them.
    #[serde(default = "yes")]
    labels: bool,
    /// Whether an index has to have them, too. Its images have been judged when they came.
    #[serde(default)]
    indexes: bool,
    /// Whether what is no image has to have them, too: charts, signatures and the like.
    #[serde(default)]
    artifacts: bool,
}

struct RequiredAnnotations(Settings);

impl Policy for RequiredAnnotations {
    type Settings = Settings;
    const NAME: &'static str = "required-annotations";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::ManifestPush];
    const WANTS: &'static [Fact] = &[Fact::ImageConfig];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let mut problems = Problems::none();
        if settings.require.is_empty() {
            problems.add("require", "name at least one annotation");
        }
        if settings.require.contains_key("") {
            problems.add("require", "an annotation's name must not be empty");
        }
        problems.or(RequiredAnnotations(settings))
    }

    fn on_manifest_push(&self, _: &Context, _: &Target, manifest: &Manifest) -> Decision {
        let settings = &self.0;
        let judged = if manifest.is_index() { settings.indexes } else { manifest.is_image() || settings.artifacts };
        if !judged {
            return Decision::Abstain;
        }
        let with_labels = settings.labels && manifest.is_image();
        let config = if with_labels { facts::image_config() } else { None };
        let labels = config.as_ref().map(|config| config.labels.as_slice()).unwrap_or_default();
        let found = |name: &str| {
            let all = manifest.annotations.iter().chain(labels);
            all.filter(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let mut faults = Vec::new();
        for (name, pattern) in &settings.require {
            let values = found(name);
            if let Some(value) = values.iter().find(|value| !pattern.matches(value)) {
                faults.push(format!("{name} is {value:?}, has to match {}", pattern.as_str()));
            } else if values.is_empty() {
                faults.push(format!("{name} is missing"));
            }
        }
        if faults.is_empty() {
            return Decision::Abstain;
        }
        let unread = if with_labels && config.is_none() { " (the image's labels could not be read)" } else { "" };
        deny(format!("annotation {}{unread}", faults.join("; ")))
    }
}

policy!(RequiredAnnotations);

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<RequiredAnnotations>("cases");
    }
}
