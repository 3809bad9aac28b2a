//! `push`: a component as an OCI artifact into the registry, as any client would put it there, with the login of `docker` or
//! `podman`.

use super::artifact::{self, Place};
use crate::cli::output::{Answer, Failure};
use crate::config::{Isolation, PublicUrl, Redirects, Upstream, UpstreamAuth};
use crate::upstream::Login;
use crate::upstream_admin::UpstreamAdmin;
use clap::Args;
use docker_credential::{DockerCredential, get_credential, get_podman_credential};
use portcullis_oci::manifest::media_type::OCI_MANIFEST;
use portcullis_oci::{Digest, Reference};
use portcullis_tenancy::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Where to: HOST/PROJECT/NAME[:TAG]
    reference: String,
    /// The component [default: the only .wasm in this directory]
    #[arg(value_name = "FILE")]
    component: Option<PathBuf>,
    /// The registry's CA, PEM [default: ca.crt where docker and podman look for it, else the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP without TLS
    #[arg(long)]
    plain_http: bool,
}

/// Where docker and podman look for a registry's CA.
const CA_DIRECTORIES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

pub(super) async fn run(wanted: &Arguments) -> Result<Answer, Failure> {
    let place = Place::parse(&wanted.reference)?;
    let Some(host) = place.host.clone() else {
        return Err(Failure::Usage(format!("name the registry too: HOST/{}", wanted.reference)));
    };
    let Reference::Tag(tag) = &place.reference else {
        return Err(Failure::Usage("a policy is pushed under a tag, not under a digest".to_owned()));
    };
    let file = match &wanted.component {
        Some(file) => file.clone(),
        None => only_component()?,
    };
    let failed = |error: anyhow::Error| Failure::Refused(format!("{}: {error:#}", wanted.reference));
    let component = std::fs::read(&file).map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
    if !component.starts_with(b"\0asm") {
        return Err(Failure::Refused(format!(
            "{} is no WebAssembly; `portcullis policy build` makes some",
            file.display()
        )));
    }
    let registry = UpstreamAdmin::as_client(&settings(wanted, &host)?, login(&host)?).map_err(failed)?;
    let repository = place.repository.as_str();
    let size = component.len();
    let layer = registry.put_blob(repository, component.into()).await.map_err(failed)?;
    let config = config(&layer).into_bytes();
    let config_size = config.len();
    let config = registry.put_blob(repository, config.into()).await.map_err(failed)?;
    let title = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": artifact::CONFIG, "digest": config.as_str(), "size": config_size },
        "layers": [{
            "mediaType": artifact::WASM,
            "digest": layer.as_str(),
            "size": size,
            "annotations": { "org.opencontainers.image.title": title },
        }],
    });
    let bytes = manifest.to_string().into_bytes().into();
    let digest = registry.put_manifest(repository, &place.reference, OCI_MANIFEST, bytes).await.map_err(failed)?;
    let project = place.repository.project();
    let text = format!(
        "{host}/{repository}:{tag} is {digest}, {size} bytes of WebAssembly.\nNext: portcullis policy attach {project} {repository}:{tag} --mode monitor\n"
    );
    let json = json!({
        "registry": host,
        "repository": repository,
        "tag": tag.as_str(),
        "digest": digest.as_str(),
        "component": layer.as_str(),
        "size": size,
    });
    Ok(Answer::new(text, json))
}

/// The config that CNCF's guidance wants ("Wasm OCI Artifact Layout").
fn config(layer: &Digest) -> String {
    let component = json!({
        "exports": ["portcullis:policy/guest@0.1.0"],
        "imports": ["portcullis:policy/facts@0.1.0", "portcullis:policy/host@0.1.0"],
        "target": "portcullis:policy/policy@0.1.0",
    });
    json!({
        "created": Timestamp::now().to_string(),
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer.as_str()],
        "component": component,
    })
    .to_string()
}

fn only_component() -> Result<PathBuf, Failure> {
    let entries = std::fs::read_dir(".").map_err(|error| Failure::Refused(error.to_string()))?;
    let mut found =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file),
        (None, _) => Err(Failure::Refused("there is no .wasm here; `portcullis policy build` makes one".to_owned())),
        (Some(_), Some(_)) => Err(Failure::Usage("there are several .wasm here; name the one to push".to_owned())),
    }
}

/// The login that a client has kept; none where nobody has logged in, as for a registry that asks for none.
fn login(host: &str) -> Result<Login, Failure> {
    let kept = get_credential(host).or_else(|_| get_podman_credential(host));
    match kept {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Login::refresh(token)),
        Ok(DockerCredential::UsernamePassword(username, password)) => Ok(Login::password(&username, &password)),
        Err(_) => Err(Failure::Refused(format!(
            "nobody is logged in to {host}; run `docker login {host}` or `podman login {host}` with a robot that may push"
        ))),
    }
}

/// The registry as something to talk to.
fn settings(wanted: &Arguments, host: &str) -> Result<Upstream, Failure> {
    let scheme = if wanted.plain_http { "http" } else { "https" };
    let url =
        PublicUrl::parse(&format!("{scheme}://{host}")).map_err(|error| Failure::Usage(format!("{host}: {error}")))?;
    let usual = || CA_DIRECTORIES.iter().map(|directory| Path::new(directory).join(host).join("ca.crt"));
    Ok(Upstream {
        url,
        ca_file: wanted.ca.clone().or_else(|| usual().find(|file| file.is_file())),
        auth: UpstreamAuth::None,
        isolation: Isolation::Ledger,
        redirects: Redirects::Follow,
        redirect_hosts: Vec::new(),
        connect_timeout: Duration::from_secs(10),
        first_byte_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        unread_timeout: Duration::from_secs(60),
        pool_idle: Duration::from_secs(10),
        max_connections: 4,
    })
}
