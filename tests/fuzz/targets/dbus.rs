//! Answers of the service manager over D-Bus.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| evenkeel::systemd::fuzz_dbus(bytes));
