//! The manifest of a handover: whatever another build wrote is refused or understood, and what is understood can be told on.
#![no_main]

use evenkeel::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((manifest, descriptors)) = Manifest::decode(bytes) else { return };
    assert!(descriptors.len() <= bytes.len());
    let told_on = manifest.encode();
    let (again, _) = Manifest::decode(&told_on).unwrap_or_else(|_| panic!("what was written is not read"));
    assert!(again.encode() == told_on, "what is told on changes at each process");
});
