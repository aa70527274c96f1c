//! memtest86+ as a guest: every byte of its memory is written and read many times over.

use anyhow::{Result, ensure};
use bulkhead_tests::{Boot, Console, TENURE};

/// Bytes of guest memory that it tests: all but what lies between 640 KiB and 1 MiB.
const TESTED: &str = "of 5.62MB]";
/// Numbers of its tests, less those that it does not run by default (1) or that end between two
/// updates of the screen (2).
const TESTS: [u32; 9] = [0, 3, 4, 5, 6, 7, 8, 9, 10];

/// What memtest86+ shows on its serial console, a VT100 of 80 columns and 25 rows.
struct Screen {
    cells: [[char; 80]; 25],
    row: usize,
    column: usize,
}

impl Screen {
    fn new() -> Self {
        Self { cells: [[' '; 80]; 25], row: 0, column: 0 }
    }

    /// Takes in text with VT100's sequences; the last of these must be whole.
    fn feed(&mut self, text: &str) {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            if let Some(sequence) = rest.strip_prefix('[').filter(|_| letter == '\x1b') {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
                let (parameters, behind) = sequence.split_at(end);
                // Colours and the cursor's looks do not matter.
                match behind.chars().next() {
                    Some('H') => self.move_to(parameters),
                    Some('J') => *self = Self::new(),
                    _ => (),
                }
                rest = behind.get(1..).unwrap_or("");
            } else {
                if let Some(cell) =
                    self.cells.get_mut(self.row).and_then(|r| r.get_mut(self.column))
                {
                    *cell = letter;
                }
                self.column += 1;
            }
        }
    }

    /// `ROW;COLUMN`, from 1 on.
    fn move_to(&mut self, parameters: &str) {
        let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(1));
        let mut next = || numbers.next().unwrap_or(1_usize).saturating_sub(1);
        (self.row, self.column) = (next(), next());
    }

    fn row(&self, row: usize) -> String {
        self.cells[row].iter().collect()
    }

    /// The number behind a name in a row.
    fn number(&self, row: usize, name: &str) -> Option<u64> {
        let row = self.row(row);
        let (_, behind) = row.split_once(name)?;
        behind.split_whitespace().next()?.parse().ok()
    }
}

/// Boots one of the package's kernels, and gives its console with what it has drawn first.
fn boot(name: &str, file: &str, cores: u32) -> Result<(Console, Screen)> {
    // It wants 4 MiB and a place above them to which it can move: 6 MiB make a pass short.
    let text = format!(
        "[[guest]]\nname = \"memtest\"\ncores = {cores}\nmemory = \"6 MiB\"\n\
         kernel = {{ debian = \"memtest86+\", file = \"boot/{file}\" }}\n\
         cmdline = \"console=ttyS0,115200 nopause nobench nosm\"\n{TENURE}"
    );
    let mut boot = Boot::of_text(name, &text)?;
    boot.machine.cores = cores + 1;
    let mut console = boot.start()?;
    console.wait_for("\x1b[2J")?;
    Ok((console, Screen::new()))
}

/// The rows with the number of passes and of errors, and with the status.
const COUNTS: usize = 8;
const STATUS: usize = 7;

/// Takes in the next update of the screen, on which there must be no error.
fn update(console: &mut Console, screen: &mut Screen) -> Result<()> {
    screen.feed(&console.wait_for("Errors: ")?);
    let shown: Vec<_> = (0..screen.cells.len()).map(|row| screen.row(row)).collect();
    // At first there is no number yet.
    let errors = screen.number(COUNTS, "Errors:").unwrap_or(0);
    ensure!(errors == 0 && !screen.row(STATUS).contains("Fail"), "{}", shown.join("\n"));
    Ok(())
}

/// A full pass, without an error.
pub fn passes_a_full_round(name: &str) -> Result<()> {
    let (mut console, mut screen) = boot(name, "memtest86+x64.bin", 1)?;
    let mut seen = Vec::new();
    while screen.number(COUNTS, "Pass:").unwrap_or(0) == 0 {
        update(&mut console, &mut screen)?;
        seen.extend(screen.number(3, "#"));
    }
    ensure!(screen.row(STATUS).contains("Status: Pass"), "{}", screen.row(STATUS));
    ensure!(screen.row(4).contains(TESTED), "{}", screen.row(4));
    for test in TESTS {
        ensure!(seen.contains(&test.into()), "test {test} is not among those seen: {seen:?}");
    }
    Ok(())
}

/// Takes in updates up to a test of this number or a higher one.
fn reach(console: &mut Console, screen: &mut Screen, test: u64) -> Result<()> {
    while screen.number(3, "#").unwrap_or(0) < test {
        update(console, screen)?;
    }
    Ok(())
}

/// A kernel without a 64-bit entry point gets as far as its fourth test.
pub fn of_32_bits_runs(name: &str) -> Result<()> {
    let (mut console, mut screen) = boot(name, "memtest86+ia32.bin", 1)?;
    reach(&mut console, &mut screen, 4)?;
    ensure!(screen.row(24).contains(".x32"), "{}", screen.row(24));
    Ok(())
}

/// Two cores test in parallel. One starts the other through the xAPIC's page; where they wait for
/// each other they halt, and an NMI wakes them.
pub fn of_two_cores_runs(name: &str) -> Result<()> {
    let (mut console, mut screen) = boot(name, "memtest86+x64.bin", 2)?;
    reach(&mut console, &mut screen, 5)?;
    ensure!(screen.row(STATUS).contains("SMP: 2T (PAR)"), "{}", screen.row(STATUS));
    Ok(())
}
