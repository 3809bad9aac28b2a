//! The names of the contract's cases, as they stand there: `manifest-push`.

use crate::{Fact, GrantType, Hook, Operation, SubjectKind};

macro_rules! names {
    ($($type:ty { $($case:ident = $name:literal,)+ })+) => {$(
        impl $type {
            /// The name in the contract.
            pub fn name(self) -> &'static str {
                match self { $(Self::$case => $name,)+ }
            }

            /// The case of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$case),)+ _ => None }
            }
        }
    )+};
}

names! {
    SubjectKind { Anonymous = "anonymous", Robot = "robot", Federated = "federated", User = "user", }
    GrantType { Basic = "basic", Password = "password", Refresh = "refresh", Federated = "federated", }
    Hook { Token = "token", Request = "request", ManifestPush = "manifest-push", Pull = "pull", Response = "response", }
    Fact {
        TagDigest = "tag-digest",
        TagsOfDigest = "tags-of-digest",
        ImageConfig = "image-config",
        StoredSizes = "stored-sizes",
        Usage = "usage",
        PushedAt = "pushed-at",
        Referrers = "referrers",
        VerifiedSigners = "verified-signers",
    }
    Operation {
        Ping = "ping",
        Catalog = "catalog",
        TagsList = "tags-list",
        Referrers = "referrers",
        ManifestPull = "manifest-pull",
        ManifestHead = "manifest-head",
        BlobPull = "blob-pull",
        BlobHead = "blob-head",
        UploadStart = "upload-start",
        UploadChunk = "upload-chunk",
        UploadFinish = "upload-finish",
        Mount = "mount",
        ManifestPush = "manifest-push",
        ManifestDelete = "manifest-delete",
        TagDelete = "tag-delete",
        BlobDelete = "blob-delete",
    }
}

impl Operation {
    /// Whether it puts something into the registry.
    pub fn is_push(self) -> bool {
        use Operation::{ManifestPush, Mount, UploadChunk, UploadFinish, UploadStart};
        matches!(self, UploadStart | UploadChunk | UploadFinish | Mount | ManifestPush)
    }

    /// Whether it takes something away.
    pub fn is_delete(self) -> bool {
        matches!(self, Operation::ManifestDelete | Operation::TagDelete | Operation::BlobDelete)
    }

    /// Whether it changes what is stored.
    pub fn is_write(self) -> bool {
        self.is_push() || self.is_delete()
    }
}
