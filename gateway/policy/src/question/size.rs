//! How much memory a question holds, near enough to bound a queue of them.

use super::{Ask, Context, Descriptor, Facts, ImageConfig, Manifest, Platform, Question, Request, Scope, Target};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes on the heap.
trait Held {
    fn held(&self) -> usize;
}

impl Question {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        let Self { context, ask, facts, raw_manifest } = self;
        let facts: &Facts = facts;
        sum([size_of::<Self>(), context.held(), ask.held(), facts.held(), raw_manifest.held()])
    }
}

fn sum(parts: impl IntoIterator<Item = usize>) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}

impl Held for String {
    fn held(&self) -> usize {
        self.len()
    }
}

impl Held for Arc<str> {
    fn held(&self) -> usize {
        self.len()
    }
}

impl Held for u64 {
    fn held(&self) -> usize {
        0
    }
}

impl<T: Held> Held for Option<T> {
    fn held(&self) -> usize {
        self.as_ref().map_or(0, Held::held)
    }
}

impl<T: Held> Held for Vec<T> {
    fn held(&self) -> usize {
        sum(self.iter().map(|one| size_of::<T>().saturating_add(one.held())))
    }
}

impl<A: Held, B: Held> Held for (A, B) {
    fn held(&self) -> usize {
        self.0.held().saturating_add(self.1.held())
    }
}

impl<K: Held, V: Held> Held for BTreeMap<K, V> {
    fn held(&self) -> usize {
        sum(self.iter().map(|(key, value)| sum([size_of::<(K, V)>(), key.held(), value.held()])))
    }
}

impl Held for Context {
    fn held(&self) -> usize {
        let subject = &self.subject;
        let texts = [&self.request_id, &self.project, &self.client_ip, &self.user_agent, &subject.id];
        sum(texts.map(Held::held).into_iter().chain([subject.project.held(), subject.claims_json.held()]))
    }
}

impl Held for Ask {
    fn held(&self) -> usize {
        match self {
            Self::Token(token) => sum([token.service.held(), token.requested.held(), token.granted.held()]),
            Self::Request(request) | Self::Response { request, .. } => request.held(),
            Self::ManifestPush { target, manifest } => target.held().saturating_add(manifest.held()),
            Self::Pull { target, manifest } => target.held().saturating_add(manifest.held()),
        }
    }
}

impl Held for Request {
    fn held(&self) -> usize {
        sum([self.method.held(), self.target.held(), self.headers.held()])
    }
}

impl Held for Scope {
    fn held(&self) -> usize {
        sum([self.kind.held(), self.name.held(), self.actions.held()])
    }
}

impl Held for Target {
    fn held(&self) -> usize {
        sum([self.repository.held(), self.tags.held(), self.digest.held()])
    }
}

impl Held for Manifest {
    fn held(&self) -> usize {
        let descriptors = [self.config.held(), self.layers.held(), self.children.held(), self.subject.held()];
        let texts = [self.media_type.held(), self.artifact_type.held(), self.digest.held(), self.annotations.held()];
        sum(descriptors.into_iter().chain(texts))
    }
}

impl Held for Descriptor {
    fn held(&self) -> usize {
        let texts = [self.media_type.held(), self.digest.held(), self.artifact_type.held()];
        sum(texts.into_iter().chain([self.platform.held(), self.urls.held(), self.annotations.held()]))
    }
}

impl Held for Platform {
    fn held(&self) -> usize {
        sum([self.os.held(), self.architecture.held(), self.cpu_variant.held()])
    }
}

impl Held for ImageConfig {
    fn held(&self) -> usize {
        sum([self.platform.held(), self.user.held(), self.labels.held()])
    }
}

impl Held for Facts {
    fn held(&self) -> usize {
        let tags = [self.tag_digest.held(), self.tags_of_digest.held(), self.pushed_at.held()];
        sum(tags.into_iter().chain([self.image_config.held(), self.referrers.held(), self.verified_signers.held()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Hook;

    #[test]
    fn what_is_larger_is_said_to_be() {
        for hook in Hook::ALL {
            let small = crate::smoke_question(hook);
            assert!((200..20_000).contains(&small.bytes()), "{hook:?}: {}", small.bytes());
        }
        let mut push = crate::smoke_question(Hook::ManifestPush);
        let before = push.bytes();
        push.raw_manifest = Some("x".repeat(1 << 20).into());
        if let Ask::ManifestPush { manifest, .. } = &mut push.ask {
            manifest.annotations.push(("a".repeat(1 << 20), "b".repeat(1 << 20)));
        }
        assert!(push.bytes() >= before + (3 << 20), "{}", push.bytes());
    }
}
