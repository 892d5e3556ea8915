//! Parameters of admin commands.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| evenkeel::admin::fuzz_query(text));
