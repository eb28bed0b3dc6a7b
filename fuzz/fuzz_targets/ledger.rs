//! A ledger's file: whatever is in it, nothing panics, what is written is read back as it was, and no line
//! that is not understood is lost.

#![no_main]

use libfuzzer_sys::fuzz_target;
use placer_engine::claims::{Claim, Fate, Ledger, Overcommit};
use placer_engine::Instant;

fuzz_target!(|input: &[u8]| {
    let mut ledger = Ledger::parse(input).value;
    let text = ledger.to_text();
    let again = Ledger::parse(&text).value;
    assert_eq!(again.claims(), ledger.claims());
    assert_eq!(again.to_text(), text);
    for claim in ledger.claims() {
        assert_eq!(Claim::from_line(claim.to_line().as_bytes()).as_ref(), Ok(claim));
    }
    let _ = ledger.charges(Overcommit::default());
    let _ = ledger.outstanding(|_| true);
    // A checksum is hard to find by chance: the same of lines that have a right one.
    let lines: Vec<Vec<u8>> = input.split(|&b| b == b'\n').map(checked).collect();
    let read = Ledger::parse(&lines.join(&b'\n')).value;
    assert_eq!(Ledger::parse(&read.to_text()).value.claims(), read.claims());
    let _ = read.charges(Overcommit::default());
    let ids: Vec<_> = ledger.claims().iter().map(|claim| claim.id).collect();
    ledger.settle("boot", Instant::from_nanoseconds(7), |_| Fate::Unknown);
    for id in ids {
        let _ = ledger.release(id);
    }
    assert!(ledger.claims().is_empty());
});

/// Returns a line with the checksum that it would have.
fn checked(line: &[u8]) -> Vec<u8> {
    let open = line.strip_suffix(b"}").unwrap_or(line);
    let check = crc32(open);
    [open, format!(",\"check\":\"{check:08x}\"}}").as_bytes()].concat()
}

fn crc32(text: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    };
    !text.iter().fold(!0, step)
}
