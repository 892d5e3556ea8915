//! PROXY headers of both versions: what is read fits into what came, and what came in pieces is read like the whole.
#![no_main]

use evenkeel::proxy_protocol::{Decoded, decode, decode_datagram};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(header)) = decode_datagram(bytes) {
        assert!(header.length <= bytes.len() && header.tlvs.len() <= header.length);
    }
    let Decoded::Header(whole) = decode(bytes) else { return };
    assert!(whole.length <= bytes.len() && whole.tlvs.len() <= whole.length);
    // Every shorter piece asks for more, and nothing behind the header changes it.
    for length in [0, 1, whole.length / 2, whole.length - 1] {
        assert!(matches!(decode(&bytes[..length]), Decoded::Incomplete { .. }), "{length} of {}", whole.length);
    }
    let Decoded::Header(alone) = decode(&bytes[..whole.length]) else { panic!("the header alone is none") };
    assert_eq!((alone.length, alone.carried), (whole.length, whole.carried));
});
