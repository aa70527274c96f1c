//! A machine that is commanded by `cargo xtask ctl`, while its consoles are listened to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulkhead_tests::{Boot, Console, Finished, OPERATOR, PASSWORD, xtask};
use serde_json::Value;
use xtask::control::socket;

/// A machine, and the client's way to it.
pub struct Client {
    /// Its consoles.
    pub console: Console,
    /// The socket that leads to its control protocol.
    pub port: PathBuf,
}

impl Client {
    /// Starts a machine.
    pub fn of(boot: Boot) -> Result<Self> {
        let port = boot.machine.folder.join(socket::NAME);
        Ok(Self { console: boot.start()?, port })
    }

    /// Gives a command as the operator of tests, who may everything.
    pub fn ctl(&mut self, command: &str) -> Result<Finished> {
        self.run(Some((OPERATOR, PASSWORD)), &["--", command])
    }

    /// Gives one as this operator with this password, or as nobody.
    pub fn ctl_as(&mut self, whom: Option<(&str, &str)>, command: &str) -> Result<Finished> {
        self.run(whom, &["--", command])
    }

    /// Gives a command whose answer is saved.
    pub fn save(&mut self, file: &Path, command: &str) -> Result<Finished> {
        let file = file.to_str().context("a path that is not UTF-8")?;
        self.run(Some((OPERATOR, PASSWORD)), &["--save", file, "--", command])
    }

    /// Gives one that is done. Gives its lines.
    pub fn done(&mut self, command: &str) -> Result<String> {
        let finished = self.ctl(command)?;
        finished.expect(0, &[]).with_context(|| command.to_string())?;
        ensure!(finished.errors.is_empty(), "`{command}`: {}", finished.errors);
        Ok(finished.output)
    }

    /// Gives one that is done, with an answer that begins so.
    pub fn answers(&mut self, command: &str, answer: &str) -> Result<()> {
        self.shows(command, answer, &[])
    }

    /// Gives one that is done, with an answer that begins so and has these texts, one behind the other.
    pub fn shows(&mut self, command: &str, answer: &str, texts: &[&str]) -> Result<()> {
        let said = self.done(command)?;
        let mut rest = said.strip_prefix(answer);
        for text in texts {
            rest = rest.and_then(|rest| rest.split_once(text)).map(|(_, rest)| rest);
        }
        ensure!(rest.is_some(), "`{command}`, which should say {answer:?} {texts:?}: {said}");
        Ok(())
    }

    /// Gives one that is refused, for a reason that begins so, and answered in no other way.
    pub fn refuses(&mut self, command: &str, why: &str) -> Result<()> {
        let finished = self.ctl(command)?;
        refused(&finished, why).with_context(|| command.to_string())
    }

    /// Gives one that is done, and answered by an object in each line.
    pub fn json(&mut self, command: &str) -> Result<Vec<Value>> {
        let said = self.done(command)?;
        let objects: Result<Vec<Value>, _> = said.lines().map(serde_json::from_str).collect();
        let objects = objects.with_context(|| format!("`{command}`: {said}"))?;
        ensure!(objects.iter().all(Value::is_object), "`{command}`: {said}");
        Ok(objects)
    }

    fn run(&mut self, whom: Option<(&str, &str)>, rest: &[&str]) -> Result<Finished> {
        let port = self.port.to_str().context("a path that is not UTF-8")?;
        // Emulated machines may take their time.
        let mut arguments = vec!["ctl", "--wait", "120", "--port", port];
        arguments.extend(whom.iter().flat_map(|(name, _)| ["--operator", name]));
        arguments.extend(rest);
        let input = whom.map_or_else(String::new, |(_, password)| format!("{password}\n"));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| xtask(&arguments, &input));
            while !client.is_finished() {
                self.console.listen(Duration::from_millis(20))?;
            }
            client.join().ok().context("the client's thread")?
        })
    }
}

/// Fails unless a command was refused for a reason that begins so, and answered in no other way.
pub fn refused(finished: &Finished, why: &str) -> Result<()> {
    finished.expect(1, &[&format!("refused: {why}")])?;
    ensure!(finished.output.is_empty(), "{}", finished.output);
    Ok(())
}
