//! The configuration: any bytes are a file or a list of mistakes, the same each time, in bounded time.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let first = evenkeel::config::read("fuzz.yaml", bytes);
    match (first, evenkeel::config::read("fuzz.yaml", bytes)) {
        (Ok(first), Ok(second)) => assert_eq!(first, second),
        (Err(first), Err(second)) => {
            assert!(first.count() > 0 && !first.to_string().is_empty());
            assert_eq!(first.to_string(), second.to_string());
        }
        _ => panic!("twice the same file, and not the same outcome"),
    }
});
