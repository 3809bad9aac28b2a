//! Short ways to say what is decided.

use crate::{Decision, Denial, Effects, Narrowing, Scope, TokenDecision};

/// Refuses. The message reaches the user's terminal after the policy's name: say what was found and what is allowed.
pub fn deny(message: impl Into<String>) -> Decision {
    Decision::Deny(denial(message))
}

/// Refuses a token.
pub fn deny_token(message: impl Into<String>) -> TokenDecision {
    TokenDecision::Deny(denial(message))
}

/// Lets pass. Unlike abstaining it can carry effects.
pub fn allow() -> Decision {
    Decision::Allow(Effects::none())
}

/// Lets pass, and shows the user a warning.
pub fn warn(message: impl Into<String>) -> Decision {
    Decision::Allow(Effects { warnings: vec![message.into()], ..Effects::none() })
}

/// Lets a token be, with these scopes and for at most this many seconds. The gateway never gives more than was asked for
/// and granted, nor for longer than it would have.
pub fn narrow(scopes: Vec<Scope>, ttl_s: u32) -> TokenDecision {
    TokenDecision::Narrow(Narrowing { scopes, ttl_s, effects: Effects::none() })
}

impl Effects {
    /// No warnings, nothing for the audit record, and no life in a cache.
    pub fn none() -> Effects {
        Effects { warnings: Vec::new(), audit: Vec::new(), cache_ttl_s: None }
    }
}

impl Decision {
    /// Adds a warning, where it lets pass; an abstention becomes an allowance.
    #[must_use]
    pub fn and_warn(self, message: impl Into<String>) -> Decision {
        self.with(|effects| effects.warnings.push(message.into()))
    }

    /// Adds a field to the audit record, where it lets pass; an abstention becomes an allowance.
    #[must_use]
    pub fn and_audit(self, name: impl Into<String>, value: impl Into<String>) -> Decision {
        self.with(|effects| effects.audit.push((name.into(), value.into())))
    }

    /// Lets the gateway repeat it for this many seconds to the same question, where it lets pass. A policy that looks at
    /// the time must not.
    #[must_use]
    pub fn and_cache(self, seconds: u32) -> Decision {
        self.with(|effects| effects.cache_ttl_s = Some(seconds))
    }

    fn with(self, change: impl FnOnce(&mut Effects)) -> Decision {
        let mut effects = match self {
            Decision::Deny(_) => return self,
            Decision::Abstain => Effects::none(),
            Decision::Allow(effects) => effects,
        };
        change(&mut effects);
        Decision::Allow(effects)
    }
}

fn denial(message: impl Into<String>) -> Denial {
    Denial { message: message.into(), code: None, detail_json: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_add_up_and_never_weaken_a_refusal() {
        let Decision::Allow(effects) = Decision::Abstain.and_warn("old").and_audit("age", "3").and_cache(9) else {
            panic!("an abstention with effects is an allowance")
        };
        assert_eq!(effects.warnings, ["old"]);
        assert_eq!(effects.audit, [("age".to_owned(), "3".to_owned())]);
        assert_eq!(effects.cache_ttl_s, Some(9));
        assert_eq!(deny("no").and_warn("but"), deny("no"));
    }
}
