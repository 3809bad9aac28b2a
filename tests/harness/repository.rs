//! A repository as one robot sees it: the requests of a well-behaved client, by hand.

use crate::http::{Credentials, Http, Request, Response};
use crate::image::{Blob, IMAGE, INDEX, Manifest};
use http::Method;

/// What a modern client says that it can read.
const READABLE: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// One repository and one set of credentials.
#[derive(Clone)]
pub struct Repository {
    http: Http,
    name: String,
    who: Credentials,
}

impl Repository {
    /// The repository `name` behind `http`.
    pub fn new(http: &Http, name: &str, who: &Credentials) -> Repository {
        Repository { http: http.clone(), name: name.to_owned(), who: who.clone() }
    }

    /// A request inside of the repository, with the credentials: `path` is what follows its name.
    #[track_caller]
    pub fn request(&self, method: Method, path: &str) -> Request {
        self.http.request(method, &format!("/v2/{}/{path}", self.name)).with(&self.who)
    }

    /// A request for a location that the registry gave, with the credentials.
    #[track_caller]
    pub fn at(&self, method: Method, location: &str) -> Request {
        self.http.request(method, location).with(&self.who)
    }

    /// Opens an upload session and returns its location.
    #[track_caller]
    pub fn open_upload(&self) -> String {
        self.request(Method::POST, "blobs/uploads/").send().expect(202).header("location")
    }

    /// Uploads a blob in a single PUT and returns the last answer; an earlier refusal is returned as it is.
    #[track_caller]
    pub fn put_blob(&self, blob: &Blob) -> Response {
        let opened = self.request(Method::POST, "blobs/uploads/").send();
        if opened.status != 202 {
            return opened;
        }
        self.at(Method::PUT, &with_digest(&opened.header("location"), &blob.digest))
            .header("content-type", "application/octet-stream")
            .body(blob.bytes.clone())
            .send()
    }

    /// Puts a manifest alone, without its blobs.
    #[track_caller]
    pub fn put_manifest(&self, reference: &str, manifest: &Manifest) -> Response {
        self.request(Method::PUT, &format!("manifests/{reference}"))
            .header("content-type", &manifest.blob.media_type)
            .body(manifest.blob.bytes.clone())
            .send()
    }

    /// Pushes all that a manifest names, then the manifest. Fails the test where anything of it is refused.
    #[track_caller]
    pub fn push(&self, reference: &str, manifest: &Manifest) -> Response {
        for blob in &manifest.blobs {
            self.put_blob(blob).expect(201);
        }
        for child in &manifest.manifests {
            self.push(child.digest(), child);
        }
        self.put_manifest(reference, manifest).expect(201)
    }

    /// Asks for a manifest.
    #[track_caller]
    pub fn manifest(&self, reference: &str) -> Response {
        self.request(Method::GET, &format!("manifests/{reference}")).header("accept", READABLE).send()
    }

    /// Asks for a blob.
    #[track_caller]
    pub fn blob(&self, digest: &str) -> Response {
        self.request(Method::GET, &format!("blobs/{digest}")).send()
    }

    /// Pulls a manifest and all that it names. Fails the test where anything is refused or differs from what was pushed.
    #[track_caller]
    pub fn pull(&self, reference: &str, pushed: &Manifest) {
        let answer = self.manifest(reference).expect(200);
        assert_eq!(answer.body, pushed.blob.bytes, "{answer}");
        assert_eq!(answer.header("docker-content-digest"), pushed.digest(), "{answer}");
        for blob in &pushed.blobs {
            let answer = self.blob(&blob.digest).expect(200);
            assert!(answer.body == blob.bytes, "{} differs from what was pushed", blob.digest);
        }
        for child in &pushed.manifests {
            self.pull(child.digest(), child);
        }
    }

    /// The tags, in order. Fails the test where they are refused.
    #[track_caller]
    pub fn tags(&self) -> Vec<String> {
        let list = self.request(Method::GET, "tags/list").send().expect(200).json();
        let mut tags: Vec<String> = list["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tag| tag.as_str().expect("tags are strings").to_owned())
            .collect();
        tags.sort();
        tags
    }

    /// Asks to delete a manifest by its digest, or one tag.
    #[track_caller]
    pub fn delete(&self, reference: &str) -> Response {
        self.request(Method::DELETE, &format!("manifests/{reference}")).send()
    }

    /// The digests of what is about `digest`, in order. Fails the test where they are refused.
    #[track_caller]
    pub fn referrers(&self, digest: &str) -> Vec<String> {
        let answer = self.request(Method::GET, &format!("referrers/{digest}")).send().expect(200);
        assert_eq!(answer.header("content-type"), INDEX, "{answer}");
        let mut found: Vec<String> = answer.json()["manifests"]
            .as_array()
            .unwrap_or_else(|| panic!("no list\n{answer}"))
            .iter()
            .map(|entry| {
                assert_eq!(entry["mediaType"], IMAGE, "{answer}");
                entry["digest"].as_str().expect("digests are strings").to_owned()
            })
            .collect();
        found.sort();
        found
    }
}

/// An upload's location with the digest that ends it.
pub fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={}", crate::http::encode(digest))
}
