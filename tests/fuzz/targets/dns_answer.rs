//! Answers of DNS servers, to a check and to a question for addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    evenkeel::health::fuzz_dns(bytes);
    evenkeel::dns::fuzz(bytes);
});
