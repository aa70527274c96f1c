//! Running other programs: one error text for all of them, and cargo without the environment that
//! `cargo xtask` itself was started in.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs a command whose output goes where ours goes, and requires that it succeeds.
pub fn run(command: &mut Command, doing: &str) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command, doing))?;
    if !status.success() {
        bail!("{doing} failed ({status}); the command was: {}", line(command));
    }
    Ok(())
}

/// Runs a command, requires that it succeeds and returns what it wrote to standard output.
pub fn capture(command: &mut Command, doing: &str) -> Result<String> {
    let output = output(command, doing)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let command = line(command);
        bail!("{doing} failed ({}): {}\nthe command was: {command}", output.status, reason.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{doing}: the output is not UTF-8"))
}

/// Runs a command and returns all of its output, whatever its status.
pub fn output(command: &mut Command, doing: &str) -> Result<Output> {
    command.output().with_context(|| cannot_start(command, doing))
}

fn cannot_start(command: &Command, doing: &str) -> String {
    format!("{doing}: cannot start {}", command.get_program().to_string_lossy())
}

/// The command as one could type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+%@".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    }));
    words.join(" ")
}

/// Whether a program of this name is on PATH.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_executable(&folder.join(program)))
}

/// Whether the path is a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Cargo, in the repository, without what the outer `cargo xtask` put into the environment.
pub fn cargo() -> Command {
    // Under `cargo xtask` this is the real cargo of the toolchain, not rustup's proxy, which
    // would put its own compiler in front of the one that we choose.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::workspace::root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    // Points at the outer toolchain's libraries, which are not those of another compiler.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_where_a_shell_needs_it() {
        let mut command = Command::new("apt-get");
        command.args(["install", "a b", "it's", "-o=x"]);
        assert_eq!(line(&command), r"apt-get install 'a b' 'it'\''s' -o=x");
    }
}
