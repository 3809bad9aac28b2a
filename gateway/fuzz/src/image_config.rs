//! Images' configs, as far as policies are shown them.

use crate::Outcome;
use crate::go::Json;
use portcullis_oci::manifest::ImageConfig;

/// A config. What is taken is what a client written in Go reads in it.
pub fn image_config(bytes: &[u8]) -> Outcome {
    let config = match ImageConfig::parse(bytes) {
        Ok(config) => config,
        Err(error) => {
            assert!(error.message.len() < 1024 && !error.message.contains(char::is_control), "{error:?}");
            return Outcome::Refused;
        }
    };
    let go = Json::read(bytes).expect("what is taken is JSON");
    assert_eq!(config.platform.os, go.string("os"));
    assert_eq!(config.platform.architecture, go.string("architecture"));
    assert_eq!(config.platform.variant.as_deref().unwrap_or_default(), go.string("variant"));
    assert_eq!(config.created.as_deref().unwrap_or_default(), go.string("created"));
    let run = go.field("config");
    assert_eq!(config.user.as_deref().unwrap_or_default(), run.map_or("", |run| run.string("User")));
    // A map: its keys are not folded, and of two the last one counts.
    let labels = match run.and_then(|run| run.field("Labels")) {
        Some(Json::Object(labels)) => labels.as_slice(),
        _ => &[],
    };
    assert_eq!(config.labels.len(), labels.len());
    for ((key, value), label) in config.labels.iter().zip(labels) {
        assert_eq!((key, &Json::String(value.clone())), (&label.0, &label.1));
        assert_eq!(labels.iter().filter(|(other, _)| other == key).count(), 1, "{key}");
    }
    Outcome::Taken
}
