//! `cargo xtask fuzz`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use xtask::{fuzz, testing};

/// What the command takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Fuzz {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many operations in all
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    ops: u64,
    /// Where chance begins: the same seed does the same again
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Have libFuzzer make up inputs for the parsers and device models, on the host
    Parsers(Parsers),
}

#[derive(Debug, Args)]
struct Parsers {
    /// Which of them [default: all]
    targets: Vec<String>,
    /// How long each is fuzzed
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    seconds: u32,
    /// Add inputs that cover more to the corpus in fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Try this input once, instead of fuzzing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "keep"])]
    replay: Option<PathBuf>,
}

impl Fuzz {
    /// Has guests or libFuzzer do what comes to their mind.
    pub fn run(self) -> Result<u8> {
        let Some(Command::Parsers(parsers)) = self.command else {
            return testing::fuzz(self.ops, self.seed);
        };
        let Parsers { targets, seconds, keep, replay } = parsers;
        match replay {
            Some(input) => fuzz::replay(&targets, &std::path::absolute(input)?),
            None => fuzz::parsers(&fuzz::Wanted { targets, seconds, keep }),
        }
    }
}
