//! Which repositories and tags there may be.

use portcullis_policy_sdk::prelude::*;

/// The rules for names; what is left out is not limited.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// Patterns of which a repository has to match one, with the project's name: `acme/team-*/**`.
    repositories: Option<Globs>,
    /// Patterns of which a tag has to match one.
    tags: Option<Globs>,
    /// Patterns that a tag must not match.
    forbidden_tags: Globs,
    /// Most characters of a repository's name.
    max_repository_length: Option<u32>,
    /// Most characters of a tag.
    max_tag_length: Option<u32>,
    /// Most parts of a repository's name between slashes.
    max_depth: Option<u32>,
}

struct Naming(Settings);

impl Policy for Naming {
    type Settings = Settings;
    const NAME: &'static str = "naming";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const HOOKS: &'static [Hook] = &[Hook::Request, Hook::ManifestPush];

    fn configure(settings: Settings) -> Result<Self, Problems> {
        let mut problems = Problems::none();
        for (path, patterns) in [("repositories", &settings.repositories), ("tags", &settings.tags)] {
            if patterns.as_ref().is_some_and(Globs::is_empty) {
                problems.add(path, "an empty list would allow nothing; leave it out to allow everything");
            }
        }
        let lengths = [settings.max_repository_length, settings.max_tag_length, settings.max_depth];
        let any_pattern =
            settings.repositories.is_some() || settings.tags.is_some() || !settings.forbidden_tags.is_empty();
        if !any_pattern && lengths.iter().all(Option::is_none) {
            problems.add("", "nothing is set, so nothing would be refused");
        }
        problems.or(Naming(settings))
    }

    fn on_request(&self, _: &Context, request: &Request) -> Decision {
        // Before the first byte of a layer, so that nobody waits for an upload that ends in a refusal.
        if !request.operation.is_push() {
            return Decision::Abstain;
        }
        let Some(target) = &request.target else { return deny("the repository is not known") };
        self.judge(target)
    }

    fn on_manifest_push(&self, _: &Context, target: &Target, _: &Manifest) -> Decision {
        self.judge(target)
    }
}

policy!(Naming);

impl Naming {
    fn judge(&self, target: &Target) -> Decision {
        let fault = self.repository(&target.repository).or_else(|| {
            let mut tags = target.tags.iter().filter(|tag| !is_referrers_tag(tag));
            tags.find_map(|tag| self.tag(tag))
        });
        fault.map_or(Decision::Abstain, deny)
    }

    fn repository(&self, name: &str) -> Option<String> {
        let settings = &self.0;
        if let Some(patterns) = settings.repositories.as_ref().filter(|patterns| !patterns.matches(name)) {
            return Some(format!("repository {name} matches none of {patterns}"));
        }
        if let Some(limit) = above(name.chars().count(), settings.max_repository_length) {
            return Some(format!("repository {name} has {} characters, limit {limit}", name.chars().count()));
        }
        let depth = name.split('/').count();
        let limit = above(depth, settings.max_depth)?;
        Some(format!("repository {name} has {depth} parts, limit {limit}"))
    }

    fn tag(&self, tag: &str) -> Option<String> {
        let settings = &self.0;
        if let Some(patterns) = settings.tags.as_ref().filter(|patterns| !patterns.matches(tag)) {
            return Some(format!("tag {tag} matches none of {patterns}"));
        }
        if settings.forbidden_tags.matches(tag) {
            return Some(format!("tag {tag} is forbidden"));
        }
        let length = tag.chars().count();
        let limit = above(length, settings.max_tag_length)?;
        Some(format!("tag {tag} has {length} characters, limit {limit}"))
    }
}

/// The limit, where it is passed.
fn above(found: usize, limit: Option<u32>) -> Option<u32> {
    limit.filter(|&limit| u32::try_from(found).map_or(true, |found| found > limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy_sdk::testing;

    #[test]
    fn its_cases_hold() {
        testing::check_cases::<Naming>("cases");
    }

    #[test]
    fn a_push_to_nowhere_is_refused() {
        let policy = Naming::configure(Settings { max_depth: Some(2), ..Settings::default() }).unwrap();
        let request = Request {
            operation: Operation::UploadStart,
            method: "POST".to_owned(),
            target: None,
            headers: Vec::new(),
            length: None,
        };
        assert_eq!(policy.on_request(&testing::context(), &request), deny("the repository is not known"));
    }
}
