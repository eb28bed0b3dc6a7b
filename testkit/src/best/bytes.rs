//! A host and a request from any bytes, for fuzzers.

use super::unusual::{Choices, differs, unusual};
use placer_engine::policy::best::Workspace;

/// Choices from bytes; the first of its options when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, n: u64) -> u64 {
        // As many bytes as it takes to reach all choices.
        let mut value = 0;
        let mut reach = 1;
        while reach < n {
            let Some((&byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            value = value << 8 | u64::from(byte);
            reach <<= 8;
        }
        value % n
    }
    fn real(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.below(1 << 16) as f64 / f64::from(0xffff)
    }
}

/// Makes a host of up to 12 nodes and a request from `input`, and panics where the answer differs from brute
/// force or takes more than the step limit.
pub fn compare(input: &[u8]) {
    let mut from = Bytes(input);
    let nodes = 1 + from.below(12) as usize;
    let unfit = from.below(2) == 1;
    let ask = unusual(&mut from, nodes, unfit);
    assert_eq!(differs(&ask, &mut Workspace::new()), Ok(()), "{ask:?}");
}
