//! Keeping an emulator's process: it never outlives xtask.
//!
//! Three things see to that. Dropping the [`Keeper`] kills the process. The kernel kills it when
//! its parent ends, even by SIGKILL. And as that signal is sent when the parent's *thread* ends,
//! the process is started and awaited by a thread of its own, which ends with the process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal};

/// A process that ends with its handle.
#[derive(Debug)]
pub struct Keeper {
    /// Names this process even after its number has been given to another.
    process: OwnedFd,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    status: Mutex<Option<ExitStatus>>,
    ended: Condvar,
    ticks: AtomicU64,
}

impl Keeper {
    /// Starts a process whose output goes to a log file. Each line of the output is also given to
    /// `ticks_in`, and what that finds is added up.
    pub fn spawn(command: Command, log: &Path, ticks_in: fn(&str) -> u64) -> Result<Self> {
        let doing = || format!("starting {}", command.get_program().to_string_lossy());
        let doing = doing();
        let log = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let state = Arc::new(State::default());
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new().name("emulator".into()).spawn(move || {
            let (child, process) = match start(command, &log) {
                Ok(started) => started,
                Err(error) => {
                    let _ = sender.send(Err(error));
                    return;
                }
            };
            let _ = sender.send(Ok(process));
            keep(child, log, &shared, ticks_in);
        })?;
        let process = receiver.recv().context("the emulator's thread ended")?.context(doing)?;
        Ok(Self { process, state, thread: Some(thread) })
    }

    /// What `ticks_in` has found so far.
    pub fn ticks(&self) -> u64 {
        self.state.ticks.load(Ordering::Relaxed)
    }

    /// Waits for the process to end, for at most the given time.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let status = self.state.status.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |status: &mut Option<ExitStatus>| status.is_none();
        let waited = self.state.ended.wait_timeout_while(status, limit, running);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the process now.
    pub fn kill(&self) {
        // Fails only where the process has ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the process so that it dies with the calling thread.
fn start(mut command: Command, log: &File) -> Result<(Child, OwnedFd)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?);
    // Out of the terminal's foreground group: Ctrl-C is for us, and we end the emulator.
    command.process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe work is allowed; the closure makes
    // two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the line above took effect.
            match rustix::process::getppid() {
                Some(now) if now == parent => Ok(()),
                _ => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        });
    }
    let mut child = command.spawn()?;
    match rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(process) => Ok((child, process)),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error.into())
        }
    }
}

/// Copies the process's output until it ends, and notes its status.
fn keep(mut child: Child, mut log: File, state: &State, ticks_in: fn(&str) -> u64) {
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Bounded, so that an emulator that never ends a line cannot fill our memory.
        while (&mut output).take(64 * 1024).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            state.ticks.fetch_add(ticks_in(&String::from_utf8_lossy(&line)), Ordering::Relaxed);
            // The log is a help for people; the run does not depend on it.
            let _ = log.write_all(&line);
            line.clear();
        }
    }
    let status = child.wait().ok();
    *state.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    state.ended.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_logged_and_counted_and_the_status_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let count = |line: &str| line.trim().parse().unwrap_or(0);
        let keeper = Keeper::spawn(shell("echo 40; echo x; echo 2; exit 3"), &log, count).unwrap();
        let status = keeper.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(keeper.ticks(), 42);
        assert_eq!(std::fs::read_to_string(log).unwrap(), "40\nx\n2\n");
    }

    #[test]
    fn the_process_outlives_the_thread_that_asked_for_it_but_not_its_handle() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let keeper =
            thread::spawn(move || Keeper::spawn(shell("exec sleep 600"), &log, |_| 0).unwrap())
                .join()
                .unwrap();
        assert!(keeper.wait(Duration::from_millis(200)).is_none());
        let state = Arc::clone(&keeper.state);
        drop(keeper);
        assert!(state.status.lock().unwrap().is_some());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new("/nonexistent/emulator");
        let error = Keeper::spawn(command, &folder.path().join("log"), |_| 0).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/emulator"), "{error:#}");
    }
}
