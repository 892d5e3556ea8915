//! First messages of clients: a reader that waits says how much is missing, is never told otherwise by what it waited for, and
//! what came in pieces says the same as the whole.
#![no_main]

use evenkeel::routing::{FIRST_BYTES_MAX, Opening, Seen, read_minecraft, read_postgres, read_tls};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let read: fn(&[u8]) -> Seen<Opening> = match which % 3 {
        0 => read_tls,
        1 => read_postgres,
        _ => read_minecraft,
    };
    let (mut have, mut looks) = (0, 0);
    let outcome = loop {
        match read(&bytes[..have]) {
            Seen::Incomplete { missing } => {
                assert!(missing > 0);
                looks += 1;
                have += missing;
                if have > bytes.len() {
                    return assert!(have <= FIRST_BYTES_MAX);
                }
            }
            other => break other,
        }
    };
    assert!(looks < 200, "{looks} looks at {have} bytes");
    // What is too long may be broken as well; and the old ping of Minecraft is whole at two lengths: whoever stops early is
    // answered early.
    if which % 3 != 2 && matches!(outcome, Seen::Whole(_)) {
        assert_eq!(read(bytes), outcome);
    }
});
