//! Making operators: passwords that are good enough, and their hashes.

use std::io::{IsTerminal, stdin};
use std::mem::MaybeUninit;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_operators::{Cost, NAME_RULE, PASSWORD_RULE, Role, is_name, is_password, make};
use rustix::rand::{GetRandomFlags, getrandom};
use zxcvbn::{Score, zxcvbn};

/// Bytes of a salt.
const SALT: usize = 16;
/// What a password must reach: more than a thousand million guesses at the least, by zxcvbn's estimate.
const LEAST: Score = Score::Four;

/// A password: typed unseen, or the first line of what is piped in.
///
/// # Errors
/// If it cannot be read.
pub fn ask() -> Result<String> {
    if stdin().is_terminal() {
        return rpassword::prompt_password("Password: ").context("reading the password");
    }
    let mut line = String::new();
    stdin().read_line(&mut line).context("reading the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

/// The same for a new one, which is typed twice.
///
/// # Errors
/// If it cannot be read, or something else is typed the second time.
pub fn ask_twice() -> Result<String> {
    let password = ask()?;
    if stdin().is_terminal() {
        let again = rpassword::prompt_password("Once more: ").context("reading the password")?;
        ensure!(password == again, "the two passwords differ; try again");
    }
    Ok(password)
}

/// The lines of a manifest that let somebody sign in.
///
/// # Errors
/// If the name is none, or the password too easy to guess: what would be right.
pub fn operator(name: &str, role: Role, password: &str) -> Result<String> {
    ensure!(is_name(name), "the name \"{}\" must be {NAME_RULE}", name.escape_debug());
    refuse_weak(name, password)?;
    let mut salt = [MaybeUninit::uninit(); SALT];
    let (salt, rest) =
        getrandom(&mut salt, GetRandomFlags::empty()).context("asking for a random salt")?;
    ensure!(rest.is_empty(), "the system gave too few random bytes for a salt");
    let hash = make(password.as_bytes(), salt, Cost::USUAL).context("making the hash")?;
    Ok(format!("[[operator]]\nname = \"{name}\"\nrole = \"{role}\"\npassword = \"{hash}\"\n"))
}

/// Refuses what would be guessed soon, with the reason.
fn refuse_weak(name: &str, password: &str) -> Result<()> {
    ensure!(is_password(password), "a password must be {PASSWORD_RULE}");
    let guess = zxcvbn(password, &[name, "bulkhead", "hypervisor"]);
    if guess.score() >= LEAST {
        return Ok(());
    }
    let feedback = guess.feedback();
    let why = feedback.and_then(|feedback| feedback.warning());
    let why =
        why.map_or_else(String::new, |why| format!(": {}", why.to_string().trim_end_matches('.')));
    let advice = feedback.and_then(|feedback| feedback.suggestions().first());
    let advice = advice.map_or_else(
        || "Take four or more words that have nothing to do with each other.".to_string(),
        ToString::to_string,
    );
    bail!(
        "this password would be found after about {} guesses{why}. {advice}",
        guesses(guess.guesses_log10())
    )
}

/// A power of ten, as people say it.
fn guesses(log10: f64) -> String {
    match log10 {
        ..3.0 => "1,000".into(),
        ..6.0 => "a million".into(),
        ..9.0 => "a thousand million".into(),
        _ => format!("10^{}", log10.round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_operators::{Memory, read, verify};

    fn refused(name: &str, password: &str) -> String {
        operator(name, Role::Viewer, password).unwrap_err().to_string()
    }

    #[test]
    fn an_operator_is_lines_of_a_manifest() {
        let lines = operator("anna", Role::Operator, "plum tractor 9 lanterns").unwrap();
        let rest = lines
            .strip_prefix("[[operator]]\nname = \"anna\"\nrole = \"operator\"\npassword = \"")
            .unwrap();
        let hash = rest.strip_suffix("\"\n").unwrap();
        assert_eq!(read(hash), Ok(Cost::USUAL));
        assert!(verify(hash, b"plum tractor 9 lanterns", &mut Memory::for_hashes([hash])));
        let again = operator("anna", Role::Operator, "plum tractor 9 lanterns").unwrap();
        assert_ne!(lines, again, "each has a salt of its own");
    }

    #[test]
    fn weak_passwords_are_refused_with_the_reason() {
        assert_eq!(refused("anna", "short"), format!("a password must be {PASSWORD_RULE}"));
        for (password, why) in [
            ("password123", "common password"),
            ("qwertyuiop[]", "rows of keys"),
            ("aaaaaaaaaaaaaaaa", "epeat"),
            ("annabulkhead", "would be found after about"),
        ] {
            let said = refused("anna", password);
            assert!(said.contains(why), "{password}: {said}");
            assert!(said.ends_with('.'), "{said}");
        }
        assert!(
            refused("Anna", "plum tractor 9 lanterns").starts_with("the name \"Anna\" must be")
        );
    }
}
