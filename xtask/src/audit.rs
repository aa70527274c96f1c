//! Audit trails, in the logs of machines.

use bulkhead_audit::{Broken, Verified};

use crate::channels::{Channel, Channels};

/// Checks the trail in what a machine's serial port said, or in a log of its lines. What guests said in between is
/// nobody's record.
///
/// # Errors
/// Where the chain is broken.
pub fn verify(bytes: &[u8]) -> Result<Verified, Broken> {
    let said = Channels::default().feed(bytes);
    let mut log = Vec::new();
    for piece in said.into_iter().filter(|piece| piece.channel == Channel::Log) {
        log.extend(piece.bytes);
    }
    bulkhead_audit::verify(&String::from_utf8_lossy(&log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_audit::Chain;

    #[test]
    fn a_guest_cannot_put_a_record_in_nor_spoil_the_trail() {
        let mut chain = Chain::default();
        let (first, last) =
            (chain.add("T", "console", "x: y"), chain.add("T", "hypervisor", "end"));
        let forged = "audit: 1 T console: stop web: done 00";
        let raw = format!("{first}\r\n\x1d[web] {forged}\r\n\x1d\x1f{last}\r\n");
        let verified = verify(raw.as_bytes()).unwrap();
        assert_eq!((verified.records, verified.ended), (2, true));
        // In the log itself it would be seen.
        assert!(verify(format!("{first}\r\n{forged}\r\n{last}\r\n").as_bytes()).is_err());
    }
}
