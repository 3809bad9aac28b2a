//! An upstream that keeps blobs for all repositories together, as some with deduplication do: then the record keeps
//! tenants apart.

use http::Method;
use portcullis_tests::faults::{Answer, Faults, Seen};
use portcullis_tests::gateway::Gateway;
use portcullis_tests::image::{Blob, Manifest, sha256};
use portcullis_tests::persona::Persona;
use portcullis_tests::repository::Repository;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What the odd registry holds: blobs by digest alone, and whatever else by repository.
#[derive(Default)]
struct Kept {
    blobs: HashMap<String, Vec<u8>>,
    /// By location.
    uploads: HashMap<String, Vec<u8>>,
    /// By path, with the media type.
    manifests: HashMap<String, (String, Vec<u8>)>,
}

fn odd_registry() -> Faults {
    let kept = Mutex::new(Kept::default());
    Faults::scripted(move |seen| kept.lock().unwrap_or_else(PoisonError::into_inner).answer(seen))
}

impl Kept {
    fn answer(&mut self, seen: &Seen) -> Answer {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        if path == "/v2/" {
            return Answer::status(200).body("{}");
        }
        if path == "/v2/_catalog" {
            return Answer::status(200).body("{\"repositories\":[]}");
        }
        if path.contains("/manifests/") {
            return self.manifest(seen, path);
        }
        let Some((name, rest)) = path.split_once("/blobs/") else { return Answer::status(404) };
        match (seen.method.as_str(), rest) {
            // Mounted from anywhere to anywhere.
            ("POST", "uploads/") if parameter("mount").is_some_and(|digest| self.blobs.contains_key(&digest)) => {
                Answer::status(201)
                    .header("location", &format!("{name}/blobs/{}", parameter("mount").unwrap_or_default()))
            }
            ("POST", "uploads/") => {
                let location = format!("{name}/blobs/uploads/{}", self.uploads.len());
                self.uploads.insert(location.clone(), Vec::new());
                Answer::status(202).header("location", &location).header("range", "0-0")
            }
            ("PATCH" | "PUT", _) => {
                let Some(bytes) = self.uploads.get_mut(path) else { return Answer::status(404) };
                bytes.extend_from_slice(&seen.body);
                match parameter("digest") {
                    None => Answer::status(202).header("location", path),
                    Some(digest) => {
                        self.blobs.insert(digest, bytes.clone());
                        Answer::status(201)
                    }
                }
            }
            ("GET" | "HEAD", digest) => match self.blobs.get(digest) {
                Some(bytes) => Answer::status(200).body(bytes.clone()),
                None => Answer::status(404),
            },
            ("DELETE", digest) => Answer::status(if self.blobs.remove(digest).is_some() { 202 } else { 404 }),
            _ => Answer::status(405),
        }
    }

    fn manifest(&mut self, seen: &Seen, path: &str) -> Answer {
        match seen.method.as_str() {
            "PUT" => {
                let blob = Blob::new(seen.header("content-type"), seen.body.clone());
                let (repository, _) = path.split_once("/manifests/").unwrap_or_default();
                for path in [path.to_owned(), format!("{repository}/manifests/{}", blob.digest)] {
                    self.manifests.insert(path, (blob.media_type.clone(), blob.bytes.clone()));
                }
                Answer::status(201).header("docker-content-digest", &blob.digest)
            }
            _ => match self.manifests.get(path) {
                Some((media_type, bytes)) => {
                    let digest = sha256(bytes);
                    let answer = Answer::status(200).header("content-type", media_type);
                    answer.header("docker-content-digest", &digest).body(bytes.clone())
                }
                None => Answer::status(404),
            },
        }
    }
}

struct Odd {
    upstream: Faults,
    gateway: Gateway,
    acme: Persona,
    globex: Persona,
}

impl Odd {
    fn open() -> Odd {
        let upstream = odd_registry();
        let gateway = Gateway::before(&upstream.url()).set("upstream.isolation", "ledger").start();
        let (acme, globex) = (gateway.persona("acme"), gateway.persona("globex"));
        Odd { upstream, gateway, acme, globex }
    }

    fn acme(&self) -> Repository {
        self.gateway.repository("acme/app", &self.acme.admin.credentials())
    }

    fn globex(&self) -> Repository {
        self.gateway.repository("globex/app", &self.globex.admin.credentials())
    }

    /// What the upstream itself says to a request in the other tenant's repository.
    fn betrayed(&self, digest: &str) -> u16 {
        let http = portcullis_tests::http::Http::new(&self.upstream.url(), None);
        http.head(&format!("/v2/globex/app/blobs/{digest}")).send().status
    }
}

#[test]
fn a_blob_is_served_only_where_the_record_links_it() {
    let odd = Odd::open();
    let secret = Manifest::image(1, 300);
    odd.acme().push("1", &secret);
    odd.acme().pull("1", &secret);
    for blob in &secret.blobs {
        assert_eq!(odd.betrayed(&blob.digest), 200, "this upstream keeps repositories apart");
        let path = format!("blobs/{}", blob.digest);
        odd.globex().blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
        odd.globex().request(Method::HEAD, &path).send().expect(404);
        odd.globex().request(Method::GET, &path).header("range", "bytes=0-9").send().refused(404, "BLOB_UNKNOWN");
        odd.globex().request(Method::DELETE, &path).send().refused(404, "BLOB_UNKNOWN");
        // Not even from another repository of the same project.
        let sibling = odd.gateway.repository("acme/lib", &odd.acme.admin.credentials());
        sibling.blob(&blob.digest).refused(404, "BLOB_UNKNOWN");
    }
    let asked = odd.upstream.seen().into_iter().filter(|seen| seen.target.starts_with("/v2/globex/app/blobs/"));
    let by_gateway = asked.filter(|seen| seen.header("user-agent") == "portcullis").count();
    assert_eq!(by_gateway, 0, "the upstream was asked for another tenant's blobs");
    odd.acme().pull("1", &secret);
}

#[test]
fn a_manifest_may_name_only_what_its_own_repository_holds() {
    let odd = Odd::open();
    let secret = Manifest::image(1, 300);
    odd.acme().push("1", &secret);
    let refused = |repository: &Repository, manifest: &Manifest| {
        let answer = repository.put_manifest("stolen", manifest);
        assert_eq!(answer.error_code(), "MANIFEST_BLOB_UNKNOWN", "{answer}");
        repository.manifest("stolen").refused(404, "MANIFEST_UNKNOWN");
    };
    refused(&odd.globex(), &secret);
    // One foreign layer among one's own is one too many.
    let own = Manifest::image(1, 100);
    odd.globex().push("own", &own);
    let mixed = own.clone().changed(|json| {
        let layers = json["layers"].as_array_mut().expect("a list");
        layers.push(secret.blobs[1].descriptor());
    });
    refused(&odd.globex(), &mixed);
    let config = own.clone().changed(|json| json["config"] = secret.blobs[0].descriptor());
    refused(&odd.globex(), &config);
    refused(&odd.globex(), &Manifest::index(vec![("amd64", own.clone()), ("arm64", secret.clone())]));
    let sibling = odd.gateway.repository("acme/lib", &odd.acme.admin.credentials());
    refused(&sibling, &secret);
    let index = Manifest::index(vec![("amd64", own)]);
    odd.globex().put_manifest("index", &index).expect(201);
    // Who has the bytes may push them.
    odd.globex().push("same", &secret);
    odd.globex().pull("same", &secret);
}

#[test]
fn a_mount_takes_a_blob_only_from_a_repository_that_the_record_links_it_to() {
    let odd = Odd::open();
    let secret = Blob::random(300);
    odd.acme().put_blob(&secret).expect(201);
    let mount = |repository: &Repository, from: &str| {
        let path = format!("blobs/uploads/?mount={}{from}", secret.digest);
        repository.request(Method::POST, &path).send()
    };
    odd.globex().push("1", &Manifest::image(1, 50));
    for from in ["", "&from=globex/app", "&from=globex/other", "&from=acme/app"] {
        mount(&odd.globex(), from).expect(202);
        odd.globex().blob(&secret.digest).refused(404, "BLOB_UNKNOWN");
    }
    let lib = odd.gateway.repository("acme/lib", &odd.acme.admin.credentials());
    mount(&lib, "&from=acme/none").expect(202);
    lib.blob(&secret.digest).refused(404, "BLOB_UNKNOWN");
    mount(&lib, "&from=acme/app").expect(201);
    lib.blob(&secret.digest).expect(200);
}

#[test]
fn a_walk_gives_nobody_what_he_only_names() {
    let odd = Odd::open();
    let (secret, own) = (Manifest::image(1, 300), Manifest::image(1, 100));
    odd.acme().push("1", &secret);
    odd.globex().push("own", &own);
    let theirs = &secret.blobs[1];
    // Foreign layers need not be here, so nobody has to have them who names them.
    let naming = own.clone().changed(|json| {
        let mut layer = theirs.descriptor();
        layer["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
        layer["urls"] = serde_json::json!(["https://example.com/layer"]);
        json["layers"].as_array_mut().expect("a list").push(layer);
        json["subject"] = secret.blob.descriptor();
    });
    odd.globex().put_manifest("naming", &naming).expect(201);
    assert_eq!(odd.betrayed(&theirs.digest), 200, "this upstream keeps repositories apart");
    for args in [["reconcile"].as_slice(), &["import"], &["reconcile", "--repair"]] {
        odd.gateway.cli(args);
        odd.globex().blob(&theirs.digest).refused(404, "BLOB_UNKNOWN");
    }
    odd.acme().pull("1", &secret);
}
