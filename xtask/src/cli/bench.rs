//! `cargo xtask bench`.

use anyhow::{Result, bail};
use clap::Args;
use xtask::bench::{self, On, Scope, cases, check as checks, table};
use xtask::emulator::{self, Kind, Wanted};
use xtask::workspace;

/// What the command takes.
#[derive(Debug, Args)]
pub struct Bench {
    /// Compare with docs/performance.json instead of writing it: fail where a case got more than 5 % dearer
    #[arg(long)]
    check: bool,
    /// On QEMU with KVM instead of Bochs, on a host with nested VT-x: ticks are time then. Nothing is written
    #[arg(long, conflicts_with = "check")]
    silicon: bool,
}

impl Bench {
    /// Measures, and shows what was found.
    pub fn run(self) -> Result<u8> {
        match self {
            Self { silicon: true, .. } => silicon(),
            Self { check: true, .. } => check(),
            _ => write(),
        }
    }
}

fn write() -> Result<u8> {
    let figures = bench::measure(Scope::Everything, On::Bochs)?;
    print!("{}", table::table(&figures));
    for missed in checks::beyond_target(&figures) {
        eprintln!("above its target: {missed}");
    }
    for path in bench::write(&figures)? {
        eprintln!("Written: {}", workspace::shown(&path));
    }
    Ok(0)
}

fn check() -> Result<u8> {
    // What there is to compare with is looked at first: measuring takes minutes.
    let committed = bench::read_committed()?;
    let figures = bench::measure(Scope::WithoutKvm, On::Bochs)?;
    print!("{}", table::table(&figures));
    for missed in checks::beyond_target(&figures) {
        eprintln!("above its target: {missed}");
    }
    let dearer = checks::dearer(&committed, &figures, cases::CASES);
    for case in &dearer {
        println!("dearer: {case}");
    }
    let of = workspace::shown(&bench::committed());
    println!("{} cases dearer than in {of}, of {}", dearer.len(), committed.date);
    Ok(u8::from(!dearer.is_empty()))
}

fn silicon() -> Result<u8> {
    let choice = emulator::choose(Wanted::Qemu);
    if choice.kind != Kind::QemuKvm {
        bail!("--silicon needs a host with nested VT-x: {}", choice.reason);
    }
    print!("{}", table::table(&bench::measure(Scope::Everything, On::Silicon)?));
    Ok(0)
}
