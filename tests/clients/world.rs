//! What every client finds: a registry, the gateway before it under a name with a certificate that has to be verified, and two tenants.

use portcullis_tests::collector::Collector;
use portcullis_tests::command::{Output, Run};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::http::Credentials;
use portcullis_tests::machine;
use portcullis_tests::persona::{Persona, Robot};
use portcullis_tests::registry::Registry;
use portcullis_tests::repository::Repository;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One test's world; to be made inside of [`machine::alone`].
pub struct World {
    pub acme: Persona,
    pub globex: Persona,
    pub gateway: Gateway,
    /// Takes all of its traces.
    pub collector: Collector,
    directory: TempDir,
    _registry: Registry,
}

impl World {
    #[track_caller]
    pub fn new() -> World {
        let registry = Registry::start();
        let collector = Collector::start();
        // It tells all that it can, so that every client's test is one of what it must not tell.
        let gateway = Gateway::before(&registry.url())
            .reached_as(machine::HOST, machine::ADDRESS)
            .set("log.level", "trace")
            .set("traces.endpoint", collector.url())
            .set("traces.sample_ratio", 1.0)
            .start();
        let (acme, globex) = (gateway.persona("acme"), gateway.persona("globex"));
        machine::trust(gateway.authority(), &gateway.ca());
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        std::fs::create_dir(directory.path().join("tmp")).expect("a new directory");
        World { acme, globex, gateway, collector, directory, _registry: registry }
    }

    /// All that the gateway has told of itself, to whomever.
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let mut told = self.gateway.told();
        let exports = self.collector.exports();
        told.push(("the traces", exports.iter().map(|export| String::from_utf8_lossy(&export.body)).collect()));
        told
    }

    /// The secrets in it.
    pub fn secrets(&self) -> Vec<String> {
        self.told().iter().flat_map(|(what, text)| self.gateway.secrets_in(what, text)).collect()
    }

    /// The registry as it is written in an image's reference.
    pub fn registry(&self) -> &str {
        self.gateway.authority()
    }

    /// An image's reference: `acme/app:1.0` with the registry before it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry())
    }

    /// A project that everybody may pull from.
    #[track_caller]
    pub fn public_project(&self, name: &str) -> Robot {
        self.gateway.cli(&["project", "create", name, "--public"]);
        self.gateway.robot(name, "pusher", &["--role", "push"])
    }

    /// The repository by hand, for what no client can do.
    #[track_caller]
    pub fn repository(&self, name: &str, who: &Robot) -> Repository {
        self.gateway.repository(name, &who.credentials())
    }

    /// The same for somebody without credentials, who has to ask for a token all the same.
    #[track_caller]
    pub fn anonymous(&self, name: &str) -> Repository {
        let scope = format!("repository:{name}:pull");
        let token = self.gateway.token(&Credentials::None, &[&scope]);
        self.gateway.repository(name, &token)
    }

    /// A directory of this test's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program with its scratch space in this test's directory.
    pub fn run(&self, program: &str) -> Run {
        Run::new(program).env("TMPDIR", self.path("tmp")).env("HOME", self.path("tmp"))
    }

    /// A directory with an image of two layers to build from.
    #[track_caller]
    pub fn build_context(&self) -> PathBuf {
        let context = self.path("context");
        std::fs::create_dir_all(&context).expect("a new directory");
        for file in ["one", "two"] {
            let contents = portcullis_tests::image::random(300_000);
            std::fs::write(context.join(file), contents).expect("our own directory");
        }
        let recipe = "FROM scratch\nCOPY one /one\nCOPY two /two\nCMD [\"/one\"]\n";
        std::fs::write(context.join("Dockerfile"), recipe).expect("our own directory");
        context
    }

    /// Where clients find the CA: the gateway's own directory, as it is.
    pub fn certificates(&self) -> PathBuf {
        self.gateway.data_dir().join("tls")
    }

    /// What podman, buildah and skopeo share: images in this test's directory, credentials in a file of their own, no other machine's certificates.
    pub fn containers(&self, program: &str, login: &str) -> Run {
        let (store, auth) = (self.path("storage.conf"), self.path(&format!("{login}.json")));
        let directory = self.directory.path().display();
        let text =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{directory}/graph\"\nrunroot = \"{directory}/run\"\n");
        std::fs::write(&store, text).expect("our own directory");
        if !auth.exists() {
            std::fs::write(&auth, "{}").expect("our own directory");
        }
        self.run(program).env("CONTAINERS_STORAGE_CONF", store).env("REGISTRY_AUTH_FILE", auth)
    }
}

impl Drop for World {
    /// Whatever the test was about: no secret may have been told.
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.gateway.tells_secrets() {
            let found = self.secrets();
            assert!(found.is_empty(), "{found:#?}");
        }
    }
}

/// What a refusal is called on the terminals of the various clients.
const REFUSED: &[&str] = &["unauthorized", "denied", "authentication required", "insufficient_scope"];

/// Fails the test unless the client says that it was refused, and not that something is or is not there.
#[track_caller]
pub fn refused(output: &Output) {
    output.says(REFUSED);
    let text = output.text().to_lowercase();
    assert!(!text.contains("unknown"), "it learned what there is\n{output}");
}

/// The text of a small file that a client has written, such as a digest.
#[track_caller]
pub fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}
