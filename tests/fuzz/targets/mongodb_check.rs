//! What MongoDB says to a check.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| evenkeel::health::fuzz_mongodb(bytes));
