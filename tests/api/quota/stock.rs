//! What random pushes are made of: blobs that images share, images that lie about them, and indexes over images.

use portcullis_tests::dice::Dice;
use portcullis_tests::image::{Blob, Manifest};

/// The repositories that it goes to.
pub const REPOSITORIES: [&str; 3] = ["one", "two", "three"];
/// The tags that it goes under.
pub const TAGS: [&str; 3] = ["a", "b", "c"];

/// A stock of content, larger than what there is room for.
pub struct Stock {
    /// Every blob that an image names, and some that none does.
    pub blobs: Vec<Blob>,
    /// Images, then indexes over some of them.
    pub manifests: Vec<Manifest>,
    /// Room for a good half of it.
    pub quota: u64,
}

impl Stock {
    /// Makes one.
    pub fn new(dice: &mut Dice) -> Stock {
        let layers: Vec<Blob> = (0..8)
            .map(|_| {
                let size = dice.one_of(1..80_000);
                dice.blob(size)
            })
            .collect();
        let mut manifests: Vec<Manifest> = (0..6)
            .map(|number| {
                let own = (0..dice.one_of(1..4)).map(|_| dice.pick(&layers).clone()).collect();
                let image = Manifest::image_for("amd64", own);
                // What a manifest claims is nobody's measure.
                let claimed = [0_u64, 1, 1 << 40];
                if number < claimed.len() {
                    return image.changed(|json| json["layers"][0]["size"] = claimed[number].into());
                }
                image
            })
            .collect();
        for pair in [[0, 3], [1, 4]] {
            let children = pair.map(|place| ("amd64", manifests[place].clone()));
            manifests.push(Manifest::index(children.to_vec()));
        }
        let mut blobs = layers;
        blobs.extend(manifests.iter().flat_map(|manifest| manifest.blobs.iter().cloned()));
        blobs.sort_by(|one, other| one.digest.cmp(&other.digest));
        blobs.dedup();
        let all: usize = blobs.iter().map(|blob| blob.bytes.len()).sum();
        Stock { blobs, manifests, quota: all as u64 * 55 / 100 }
    }
}
