//! Counting the lines of code that run in root mode on a guest's core: as `docs/specification.md` does.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What runs on the service core alone, below `kernel/src`.
const ELSEWHERE: [&str; 2] = ["control", "vmx/checks"];

/// Lines of the kernel's sources that are not empty, no comments, no tests, not in builds to be tested alone, and not of
/// what runs elsewhere.
pub fn lines_in_root_mode(kernel: &Path) -> Result<u64> {
    let elsewhere = ELSEWHERE.map(|folder| kernel.join(folder));
    count(kernel, &elsewhere)
}

fn count(folder: &Path, without: &[std::path::PathBuf]) -> Result<u64> {
    let mut lines = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "tests" && name != "testing" && !without.contains(&path) {
                lines += count(&path, without)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "testing.rs" {
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            lines += lines_of_code(&text);
        }
    }
    Ok(lines)
}

fn lines_of_code(text: &str) -> u64 {
    let before_tests = text.lines().take_while(|line| !line.starts_with("mod tests {"));
    let code =
        before_tests.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_are_no_code() {
        let text =
            "//! Head.\n\nuse a;\n    // Why.\n    b();\n#[cfg(test)]\nmod tests {\n    c();\n}\n";
        assert_eq!(lines_of_code(text), 3);
    }

    #[test]
    fn folders_of_others_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["control", "vmx/checks", "guest/tests", "arch/testing"] {
            let place = folder.path().join(name);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("a.rs"), "x;\n").unwrap();
        }
        fs::write(folder.path().join("guest/b.rs"), "x;\ny;\n").unwrap();
        assert_eq!(lines_in_root_mode(folder.path()).unwrap(), 2);
    }
}
