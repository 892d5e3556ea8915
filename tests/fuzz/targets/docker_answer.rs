//! What a Docker daemon answers, and its events.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| evenkeel::discovery::fuzz_docker(bytes));
