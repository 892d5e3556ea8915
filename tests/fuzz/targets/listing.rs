//! Lists of backends that a file or a URL gives: any bytes are a list in bounds or a mistake with its place, the same each time.
#![no_main]

use evenkeel::config::read_listing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let first = read_listing("list", bytes).map_err(|mistakes| mistakes.in_a_line());
    assert_eq!(first, read_listing("list", bytes).map_err(|mistakes| mistakes.in_a_line()));
    match first {
        Ok(all) => assert!(all.len() <= 10_000 && all.len() <= bytes.len()),
        Err(told) => assert!(!told.is_empty() && !told.contains('\n')),
    }
});
