//! The smoke call: an ordinary question for each hook, asked of every policy before it is let in.

use crate::question::{
    Ask, Context, Descriptor, Facts, GrantType, Hook, ImageConfig, Manifest, Operation, Outcome, Platform, Question,
    Request, Scope, Subject, SubjectKind, Target, TokenRequest, Usage,
};
use std::sync::Arc;

/// An ordinary question for a hook: what every policy is asked before it is let in.
pub fn question(hook: Hook) -> Question {
    let target =
        || Target { repository: "smoke/call".to_owned(), tags: vec!["1.0".to_owned()], digest: Some(digest('a')) };
    let request = |operation| Request {
        operation,
        method: "GET".to_owned(),
        target: Some(target()),
        headers: Vec::new(),
        length: None,
    };
    let scope =
        || Scope { kind: "repository".to_owned(), name: "smoke/call".to_owned(), actions: vec!["pull".to_owned()] };
    let ask = match hook {
        Hook::Token => Ask::Token(TokenRequest {
            service: "smoke".to_owned(),
            grant_type: GrantType::Basic,
            offline: false,
            requested: vec![scope()],
            granted: vec![scope()],
            default_ttl_s: 300,
            max_ttl_s: 300,
        }),
        Hook::Request => Ask::Request(request(Operation::ManifestPull)),
        Hook::ManifestPush => Ask::ManifestPush { target: target(), manifest: manifest() },
        Hook::Pull => Ask::Pull { target: target(), manifest: Some(manifest()) },
        Hook::Response => Ask::Response {
            request: request(Operation::ManifestPull),
            outcome: Outcome { status: 200, bytes_out: 1_000, duration_us: 1_000 },
        },
    };
    let raw_manifest = matches!(hook, Hook::ManifestPush | Hook::Pull).then(|| Arc::from(r#"{"schemaVersion":2}"#));
    Question { context: context(), ask, facts: Arc::new(facts()), raw_manifest }
}

fn context() -> Context {
    Context {
        request_id: "smoke".to_owned(),
        project: "smoke".to_owned(),
        now_ms: 1_767_225_600_000,
        client_ip: "192.0.2.1".to_owned(),
        user_agent: "smoke/1.0".to_owned(),
        subject: Subject {
            kind: SubjectKind::Robot,
            id: "smoke".to_owned(),
            project: Some("smoke".to_owned()),
            issuer: None,
            claims_json: "{}".to_owned(),
        },
    }
}

fn manifest() -> Manifest {
    let blob = |media_type: &str, letter| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest(letter),
        size: 1_000,
        stored_size: Some(1_000),
        ..Descriptor::default()
    };
    Manifest {
        media_type: portcullis_oci::manifest::media_type::OCI_MANIFEST.to_owned(),
        digest: digest('a'),
        size: 500,
        config: Some(blob("application/vnd.oci.image.config.v1+json", 'b')),
        layers: vec![blob("application/vnd.oci.image.layer.v1.tar+gzip", 'c')],
        ..Manifest::default()
    }
}

fn facts() -> Facts {
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), cpu_variant: None };
    Facts {
        tag_digest: Some(std::iter::once(("1.0".to_owned(), digest('d'))).collect()),
        tags_of_digest: Some(std::iter::once((digest('a'), vec!["1.0".to_owned()])).collect()),
        image_config: Some(ImageConfig { platform, ..ImageConfig::default() }),
        usage: Some(Usage { used_bytes: 1_000, quota_bytes: Some(1_000_000) }),
        pushed_at: Some(std::iter::once((digest('a'), 1_767_225_000_000)).collect()),
        referrers: Some(Vec::new()),
        verified_signers: Some(Vec::new()),
        failed: Vec::new(),
    }
}

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}
