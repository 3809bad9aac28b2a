//! Compiling a component in a process of its own, with limits on memory and time: whoever attaches it may have made it to
//! be hard to compile.

use crate::config;
use portcullis_policy::{Compiler, precompile};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Most bytes of native code that are taken for any component, and for each byte of a large one.
const MAX_OUTPUT: u64 = 256 * 1024 * 1024;
const MAX_GROWTH: u64 = 8;

/// The hidden command that compiles: a component on standard input, native code on standard output.
pub const COMMAND: &str = "policy-compile";

/// Compiles in a child that runs this very program.
pub fn in_a_child(limits: &config::Policies) -> std::io::Result<Compiler> {
    let program = std::env::current_exe()?;
    let (memory, time, most) = (limits.compile_memory_bytes, limits.compile_time, limits.host.component_bytes);
    Ok(Box::new(move |component| {
        let mut command = Command::new(&program);
        command.arg(COMMAND).args([memory.to_string(), time.as_secs().to_string(), most.to_string()]);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("the compiler cannot be started: {error}"))?;
        let size = u64::try_from(component.len()).unwrap_or(u64::MAX);
        exchange(child, component, time, size.saturating_mul(MAX_GROWTH).max(MAX_OUTPUT))
    }))
}

/// Hands a component to a compiler and takes what it makes of it, at most `most` bytes.
fn exchange(mut child: Child, component: &[u8], time: Duration, most: u64) -> Result<Vec<u8>, String> {
    let (mut input, mut output, mut errors) = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(input), Some(output), Some(errors)) => (input, output, errors),
        _ => return Err("the compiler has no pipes".to_owned()),
    };
    let component = component.to_vec();
    // Ends with the pipe: a child that reads nothing is ended below.
    std::thread::spawn(move || input.write_all(&component));
    let (sender, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut native = Vec::new();
        let read = output.by_ref().take(most.saturating_add(1)).read_to_end(&mut native).map(|_| native);
        // A child that has more to say ends here.
        drop(output);
        let mut complaint = String::new();
        let _ = errors.by_ref().take(4096).read_to_string(&mut complaint);
        let _ = sender.send((read, complaint));
    });
    let told = outcome.recv_timeout(time);
    if told.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match told {
        Err(_) => Err(format!("it takes longer than {} s", time.as_secs())),
        Ok((Ok(native), _)) if u64::try_from(native.len()).is_ok_and(|length| length > most) => {
            Err(format!("its native code has more than {most} bytes"))
        }
        Ok((Ok(native), _)) if status.success() && !native.is_empty() => Ok(native),
        Ok((_, complaint)) if !complaint.trim().is_empty() => Err(complaint.trim().to_owned()),
        Ok(_) => Err(format!("the compiler ended with {status}: the component needs more memory or time than allowed")),
    }
}

/// What the hidden command does: limits itself, then compiles.
pub fn run(memory_bytes: u64, time: Duration, component_bytes: usize) -> ExitCode {
    match limited(memory_bytes, time, component_bytes) {
        Ok(native) if std::io::stdout().lock().write_all(&native).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn limited(memory_bytes: u64, time: Duration, component_bytes: usize) -> Result<Vec<u8>, String> {
    let at_most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    for (resource, limit) in [(Resource::As, memory_bytes), (Resource::Cpu, time.as_secs()), (Resource::Core, 0)] {
        setrlimit(resource, at_most(limit)).map_err(|error| format!("limits cannot be set: {error}"))?;
    }
    let limits = portcullis_policy::Limits { component_bytes, ..portcullis_policy::Limits::default() };
    let mut component = Vec::new();
    let most = u64::try_from(limits.component_bytes).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(most).read_to_end(&mut component).map_err(|error| error.to_string())?;
    precompile(&component, &limits).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, most: u64) -> Result<Vec<u8>, String> {
        patient_shell(script, most, Duration::from_secs(60))
    }

    fn patient_shell(script: &str, most: u64, patience: Duration) -> Result<Vec<u8>, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        exchange(command.spawn().unwrap(), b"component", patience, most)
    }

    #[test]
    fn what_the_compiler_says_is_taken_up_to_a_limit() {
        assert_eq!(shell("cat", 9).unwrap(), b"component");
        assert_eq!(shell("cat", 8).unwrap_err(), "its native code has more than 8 bytes");
        assert_eq!(shell("cat /dev/zero", 1 << 20).unwrap_err(), "its native code has more than 1048576 bytes");
        assert_eq!(shell("cat > /dev/null; echo no >&2; exit 1", 9).unwrap_err(), "no");
    }

    #[test]
    fn a_compiler_that_does_not_come_to_an_end_is_ended() {
        let told = patient_shell("exec sleep 600", 9, Duration::from_millis(50)).unwrap_err();
        assert_eq!(told, "it takes longer than 0 s");
    }
}
