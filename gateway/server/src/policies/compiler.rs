//! Compiling a component in a process of its own, with limits on memory and time: whoever attaches it may have made it to
//! be hard to compile.

use crate::config;
use portcullis_policy::{Compiler, precompile};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

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
        exchange(child, component, time)
    }))
}

fn exchange(mut child: Child, component: &[u8], time: Duration) -> Result<Vec<u8>, String> {
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
        let read = output.read_to_end(&mut native).map(|_| native);
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
