//! Somebody gets hold of the store: whatever he does to the trail is found, and the first record is named.

use super::{broken, whole};
use portcullis_tests::gateway::Gateway;
use std::path::PathBuf;

/// A deployment with four records in their places.
fn gateway() -> Gateway {
    let gateway = Gateway::before("http://127.0.0.1:1").stopped();
    gateway.persona_unasked("acme");
    let verified = whole(&gateway, &[]);
    assert_eq!(verified["chains"][0]["count"], 4, "{verified:#}");
    gateway
}

/// A checkpoint, kept elsewhere.
fn checkpoint(gateway: &Gateway) -> PathBuf {
    let file = gateway.data_dir().join("elsewhere");
    std::fs::write(&file, gateway.cli(&["audit", "checkpoint"]).stdout).expect("the test's own directory");
    file
}

#[test]
fn what_was_changed_removed_moved_or_cut_off_is_named() {
    let gateway = gateway();
    gateway.sql("CREATE TABLE kept AS SELECT * FROM audit; CREATE TABLE kept_chain AS SELECT * FROM audit_chain;");
    for (tampering, message) in [
        ("UPDATE audit SET actor = 'somebody else' WHERE sequence = 2;", "record 2 of node"),
        ("UPDATE audit SET at = at - 1 WHERE sequence = 3;", "record 3 of node"),
        ("UPDATE audit SET reason = '' WHERE sequence = 1;", "record 1 of node"),
        ("DELETE FROM audit WHERE sequence = 3;", "record 3 of node"),
        ("DELETE FROM audit WHERE sequence = 3; UPDATE audit SET sequence = 3 WHERE sequence = 4;", "record 3 of node"),
        (
            "UPDATE audit SET sequence = 9 WHERE sequence = 2; UPDATE audit SET sequence = 2 WHERE sequence = 3; \
             UPDATE audit SET sequence = 3 WHERE sequence = 9;",
            "record 2 of node",
        ),
        ("DELETE FROM audit WHERE sequence > 2;", "records 3 to 4 of node"),
        ("DELETE FROM audit WHERE sequence = 4; UPDATE audit_chain SET count = 3;", "head of node"),
        ("UPDATE audit_chain SET count = 3;", "the head of node"),
        ("DELETE FROM audit_chain;", "the head of node"),
        // What cannot be read is told like anything else.
        ("UPDATE audit SET at = 9223372036854775807 WHERE sequence = 2;", "record 2 of node"),
        ("UPDATE audit_chain SET link = 'nonsense';", "the head of node"),
        ("UPDATE audit_chain SET base = 'nonsense';", "what came before record 1 of node"),
    ] {
        gateway.sql(tampering);
        broken(&gateway, &[], message);
        gateway.sql(
            "DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; \
             DELETE FROM audit_chain; INSERT INTO audit_chain SELECT * FROM kept_chain;",
        );
        whole(&gateway, &[]);
    }
}

#[test]
fn a_record_that_was_changed_before_it_had_a_place_is_named() {
    let gateway = gateway();
    gateway.cli(&["robot", "disable", "acme", "puller"]);
    gateway.sql("UPDATE audit SET actor = 'somebody else' WHERE sequence IS NULL;");
    broken(&gateway, &[], "record 5 of node").says(&["robot-disable by somebody else"]);
}

#[test]
fn a_trail_that_was_taken_away_whole_is_missed_by_a_checkpoint() {
    let gateway = gateway();
    let file = checkpoint(&gateway);
    let checkpoint = ["--checkpoint", file.to_str().expect("a path")];
    whole(&gateway, &checkpoint);
    gateway.sql("DELETE FROM audit; DELETE FROM audit_chain;");
    broken(&gateway, &checkpoint, "records 1 to 4 of node");
}

#[test]
fn a_trail_that_was_written_anew_with_the_key_is_found_by_a_checkpoint_of_before() {
    let gateway = gateway();
    let file = checkpoint(&gateway);
    let checkpoint = ["--checkpoint", file.to_str().expect("a path")];
    gateway.sql("DELETE FROM audit; DELETE FROM audit_chain;");
    for _ in 0..6 {
        gateway.cli(&["robot", "rotate", "acme", "puller"]);
    }
    whole(&gateway, &[]);
    broken(&gateway, &checkpoint, "was written anew: up to record 4");
}

#[test]
fn a_checkpoint_that_nobody_signed_is_refused() {
    let gateway = gateway();
    let file = checkpoint(&gateway);
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::write(&file, text.replace("\"count\":4", "\"count\":3")).expect("the test's own directory");
    broken(&gateway, &["--checkpoint", file.to_str().expect("a path")], "was not signed by this deployment");
    std::fs::write(&file, "nonsense\n").expect("the test's own directory");
    gateway.command(&["audit", "verify", "--checkpoint", file.to_str().expect("a path")]).fails().says(&["line 1"]);
}
