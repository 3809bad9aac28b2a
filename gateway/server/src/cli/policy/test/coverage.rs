//! Which of what a policy could say is said in some case: every verdict of every hook that it names, and refused settings.

use super::Verdict;
use portcullis_policy::question::Hook;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What can be reached, and what was.
pub(super) struct Coverage {
    hooks: Vec<Hook>,
    /// Refused settings belong to no hook.
    reached: BTreeSet<(Option<Hook>, Verdict)>,
}

impl Coverage {
    /// Nothing is reached yet of what can be said at these hooks.
    pub(super) fn at(hooks: Vec<Hook>) -> Self {
        Self { hooks, reached: BTreeSet::new() }
    }

    pub(super) fn reached(&mut self, hook: Hook, verdict: Verdict) {
        match verdict {
            Verdict::InvalidSettings => self.reached.insert((None, verdict)),
            _ => self.hooks.contains(&hook) && self.reached.insert((Some(hook), verdict)),
        };
    }

    fn all(&self) -> Vec<(Option<Hook>, Verdict)> {
        let of_hook =
            |hook: &Hook| Verdict::at(*hook).iter().map(|verdict| (Some(*hook), *verdict)).collect::<Vec<_>>();
        self.hooks.iter().flat_map(of_hook).chain([(None, Verdict::InvalidSettings)]).collect()
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let all = self.all();
        let mut missed = Vec::new();
        for hook in &self.hooks {
            let unsaid: Vec<&str> = Verdict::at(*hook)
                .iter()
                .filter(|verdict| !self.reached.contains(&(Some(*hook), **verdict)))
                .map(|verdict| verdict.name())
                .collect();
            if unsaid.len() == Verdict::at(*hook).len() {
                missed.push(format!("{} at all", hook.name()));
            } else if !unsaid.is_empty() {
                missed.push(format!("{} {}", hook.name(), unsaid.join(" or ")));
            }
        }
        if !self.reached.contains(&(None, Verdict::InvalidSettings)) {
            missed.push(Verdict::InvalidSettings.name().to_owned());
        }
        let count = format!("coverage: {} of {} verdicts", self.reached.len(), all.len());
        if missed.is_empty() { count } else { format!("{count}; no case reaches {}", missed.join(", ")) }
    }

    pub(super) fn json(&self) -> Value {
        let pair =
            |(hook, verdict): &(Option<Hook>, Verdict)| json!({ "hook": hook.map(Hook::name), "verdict": verdict });
        let all = self.all();
        let (reached, missed): (Vec<_>, Vec<_>) = all.iter().partition(|pair| self.reached.contains(pair));
        let list = |pairs: Vec<_>| pairs.into_iter().map(pair).collect::<Vec<_>>();
        json!({ "reached": list(reached), "missed": list(missed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_case_reaches_is_named() {
        let mut coverage = Coverage::at(vec![Hook::ManifestPush, Hook::Pull, Hook::Response]);
        coverage.reached(Hook::ManifestPush, Verdict::Deny);
        coverage.reached(Hook::ManifestPush, Verdict::Deny);
        coverage.reached(Hook::Response, Verdict::Abstain);
        // A hook that the policy does not name counts for nothing.
        coverage.reached(Hook::Token, Verdict::Abstain);
        assert_eq!(
            coverage.line(),
            "coverage: 2 of 8 verdicts; no case reaches manifest-push abstain or allow, pull at all, invalid-settings"
        );
        assert_eq!(coverage.json()["reached"].as_array().unwrap().len(), 2);
        assert_eq!(coverage.json()["missed"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn a_full_coverage_is_one_number() {
        let mut coverage = Coverage::at(vec![Hook::Token]);
        for verdict in Verdict::at(Hook::Token) {
            coverage.reached(Hook::Token, *verdict);
        }
        coverage.reached(Hook::Token, Verdict::InvalidSettings);
        assert_eq!(coverage.line(), "coverage: 4 of 4 verdicts");
    }
}
