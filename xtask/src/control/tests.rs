//! The client with the hypervisor's own side of the protocol.

use super::*;
use bulkhead::control::link::Link;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

/// What a machine does with what it gets and what it says.
#[derive(Clone, Copy, Default)]
struct Line {
    /// Said before anything else.
    garbage: &'static [u8],
    /// The number of a byte from the client that is altered on the way, and of one to it.
    damaged: Option<usize>,
    damaged_back: Option<usize>,
}

/// A machine with the hypervisor's side; its commands are `fly`, which it refuses, `mute`, and whatever else, which it
/// repeats. Gives how many it has got.
fn machine(line: Line) -> (Client, JoinHandle<usize>) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let client = Client::new(Port::from(std::os::fd::OwnedFd::from(near)), Duration::from_secs(2));
    (client, thread::spawn(move || serve(far, line)))
}

fn serve(mut far: UnixStream, line: Line) -> usize {
    let (mut link, mut commands, mut came, mut went) = (Link::new(), 0, 0, 0);
    far.write_all(line.garbage).unwrap();
    let mut bytes = [0; 64];
    loop {
        let length = match far.read(&mut bytes) {
            Ok(0) => return commands,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return commands,
            Err(error) => panic!("{error}"),
        };
        for &byte in &bytes[..length] {
            link.receive(if line.damaged == Some(came) { byte ^ 4 } else { byte });
            came += 1;
        }
        link.greet();
        while let Some(command) = link.request() {
            commands += 1;
            match &command[..] {
                b"fly" => link.refuse(format_args!("no wings")),
                b"mute" => continue,
                _ => {
                    link.answer(format_args!("{}", command.escape_ascii()));
                    link.answer(format_args!("{}", "x".repeat(1000)));
                }
            }
            link.end();
        }
        let mut said = Vec::new();
        while !link.is_idle() {
            let byte = link.waiting()[0];
            said.push(if line.damaged_back == Some(went) { byte ^ 4 } else { byte });
            (went, _) = (went + 1, link.sent(1));
        }
        // The client may have left.
        let _ = far.write_all(&said);
    }
}

fn command(client: &mut Client, line: &str) -> Result<(Vec<Said>, End)> {
    let mut said = Vec::new();
    let end = client.command(line, |line| said.push(line))?;
    Ok((said, end))
}

fn list() -> (Vec<Said>, End) {
    (vec![Said::Line("list".into()), Said::Line("x".repeat(1000))], End::Done)
}

#[test]
fn commands_are_answered_one_after_another() {
    let (mut client, machine) = machine(Line::default());
    assert!(client.greet().unwrap().starts_with("Bulkhead "));
    assert_eq!(command(&mut client, "list").unwrap(), list());
    let refused = (vec![Said::Reason("no wings".into())], End::Refused);
    assert_eq!(command(&mut client, "fly").unwrap(), refused);
    assert_eq!(command(&mut client, "list").unwrap(), list());
    let error = command(&mut client, &"x".repeat(129)).unwrap_err();
    assert_eq!(error.to_string(), "a command has at most 128 bytes, not 129");
    drop(client);
    assert_eq!(machine.join().unwrap(), 3);
}

#[test]
fn garbage_and_others_answers_are_passed_over() {
    let garbage = b"[   0.1] log\r\n\x1d[one] $ \x1d\x02\x0f\x1d\x03\x1d\x1d\x02half";
    let (mut client, _machine) = machine(Line { garbage, ..Line::default() });
    client.greet().unwrap();
    assert_eq!(command(&mut client, "list").unwrap(), list());
}

#[test]
fn a_command_that_arrives_damaged_is_sent_again_and_done_once() {
    // Behind the greeting: somewhere in the command.
    let hello = encode(Kind::Hello, 0x0101_0101, 0, &[]).len();
    let (mut client, machine) = machine(Line { damaged: Some(hello + 8), ..Line::default() });
    client.greet().unwrap();
    assert_eq!(command(&mut client, "list").unwrap(), list());
    drop(client);
    assert_eq!(machine.join().unwrap(), 1);
}

#[test]
fn an_answer_that_arrives_damaged_is_an_error() {
    for at in [60, 300, 1000] {
        let (mut client, machine) = machine(Line { damaged_back: Some(at), ..Line::default() });
        client.greet().unwrap();
        let error = command(&mut client, "list").unwrap_err();
        assert!(error.to_string().contains("were lost on the way"), "{error}");
        drop(client);
        assert_eq!(machine.join().unwrap(), 1);
    }
}

#[test]
fn silence_is_an_error() {
    let (mut client, _machine) = machine(Line::default());
    client.greet().unwrap();
    let error = command(&mut client, "mute").unwrap_err();
    assert!(error.to_string().starts_with("no answer in 2 s; whether"), "{error}");
    let (near, _far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let port = Port::from(std::os::fd::OwnedFd::from(near));
    let error = Client::new(port, Duration::from_secs(1)).greet().unwrap_err();
    assert!(error.to_string().starts_with("nothing answers there in 1 s: "), "{error}");
}

#[test]
fn a_machine_that_ends_is_an_error() {
    let (mut client, machine) = machine(Line::default());
    client.greet().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    client.port = Port::from(std::os::fd::OwnedFd::from(near));
    let error = client.greet().unwrap_err();
    assert!(format!("{error:#}").contains("port"), "{error:#}");
    machine.join().unwrap();
}

#[test]
fn a_serial_device_passes_every_byte_as_it_is() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&far).unwrap();
    unlockpt(&far).unwrap();
    let name = ptsname(&far, Vec::new()).unwrap().into_string().unwrap();
    let mut port = Port::open(std::path::Path::new(&name)).unwrap();
    let all: Vec<u8> = (0..=255).collect();
    port.send(&all).unwrap();
    let mut came = vec![0; 256];
    std::fs::File::from(far.try_clone().unwrap()).read_exact(&mut came).unwrap();
    assert_eq!(came, all);
    rustix::io::write(&far, &all).unwrap();
    let mut came = Vec::new();
    while came.len() < all.len() {
        let more = port.receive(Duration::from_secs(20)).unwrap();
        assert!(!more.is_empty());
        came.extend(more);
    }
    assert_eq!(came, all);
}
