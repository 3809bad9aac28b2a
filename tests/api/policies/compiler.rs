//! Components are compiled in a process of its own, which holds itself to limits: it is no matter how hard they are made to be
//! compiled.

use portcullis_tests::gateway::Gateway;
use portcullis_tests::guest::shipped;

const MIB: u64 = 1024 * 1024;

#[test]
fn the_compilers_own_process_holds_itself_to_memory_time_and_size() {
    let gateway = Gateway::before("http://127.0.0.1:1").stopped();
    let component = std::fs::read(shipped("rego")).expect("it was built");
    let size = u64::try_from(component.len()).expect("some bytes");
    let compile = |memory: u64, seconds: u64, most: u64| {
        let limits = [memory, seconds, most].map(|limit| limit.to_string());
        let command = gateway.command(&["policy-compile", &limits[0], &limits[1], &limits[2]]);
        command.stdin(component.clone()).run()
    };
    let made = compile(4096 * MIB, 300, size);
    assert!(made.code == Some(0) && !made.stdout.is_empty(), "{}", made.stderr);
    for (what, outcome) in [
        ("little memory", compile(48 * MIB, 300, size)),
        ("little time", compile(4096 * MIB, 1, size)),
        ("another size", compile(4096 * MIB, 300, size - 1)),
    ] {
        assert!(outcome.code != Some(0) && outcome.stdout.is_empty(), "{what}: {:?} {}", outcome.code, outcome.stderr);
    }
}
