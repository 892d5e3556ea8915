//! What the API of a Kubernetes cluster answers, and a kubeconfig.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| evenkeel::discovery::fuzz_kubernetes(bytes));
